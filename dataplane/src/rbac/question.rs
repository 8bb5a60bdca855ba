//! What is asked of a policy.

use crate::project::Project;

#[derive(Debug, Clone, Copy)]
pub struct Question<'q, 'a> {
    pub resource: &'q str,
    pub action: &'q str,
    /// Names of one and the same object. A deny of either refuses, an allow of either suffices.
    pub objects: &'q [&'q str],
    /// The project that the object belongs to, where the resource is one that belongs to projects.
    pub project: Option<&'a Project>,
}

/// What every request is asked. The rules that can say something about it are known beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    GetApplication,
    InvokeExtension,
}

impl Kind {
    pub(super) const COUNT: usize = 2;
    pub(super) const ALL: [Self; Self::COUNT] = [Self::GetApplication, Self::InvokeExtension];

    pub(super) fn resource_and_action(self) -> (&'static str, &'static str) {
        match self {
            Self::GetApplication => ("applications", "get"),
            Self::InvokeExtension => ("extensions", "invoke"),
        }
    }

    pub(super) fn of(question: &Question<'_, '_>) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.resource_and_action() == (question.resource, question.action))
    }
}
