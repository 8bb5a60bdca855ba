//! Names of extensions, as they stand in the path `/extensions/<name>/`.

use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidName {
    #[error("a name must be given")]
    Empty,
    #[error("only letters, digits, hyphens and underscores are allowed")]
    Character,
}

/// Accepts what Argo CD accepts: `[A-Za-z0-9-_]+`.
pub fn check_name(name: &str) -> Result<(), InvalidName> {
    if name.is_empty() {
        return Err(InvalidName::Empty);
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.bytes().all(allowed) { Ok(()) } else { Err(InvalidName::Character) }
}
