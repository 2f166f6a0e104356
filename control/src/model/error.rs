//! Why an object was refused.

/// A field that the API server would not have accepted. Fits after the object's kind and name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct ObjectError {
    /// The field's path, as `spec.ports[0].nodePort`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl ObjectError {
    pub(super) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}
