//! What of an Application decides requests.

use std::sync::Arc;

/// Kept small: there may be tens of thousands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// The project, `default` where none is given. Shared between the applications of one project.
    pub project: Arc<str>,
    pub destination: Arc<Destination>,
}

/// A destination as the Application writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Destination {
    pub server: String,
    pub name: String,
    pub namespace: String,
}

/// All applications by `<namespace>:<name>`, as requests name them. Changing one does not copy the others.
pub type Applications = imbl::HashMap<Box<str>, Arc<Application>>;

/// The key of an application in [`Applications`].
pub fn key(namespace: &str, name: &str) -> Box<str> {
    format!("{namespace}:{name}").into()
}
