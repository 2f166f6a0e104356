//! What `explain` says.

use serde::{Deserialize, Serialize};

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It reaches a backend.
    Forward,
    /// It is answered with an ICMP error.
    Reject,
    /// It is gone.
    Drop,
    /// The kernel has it.
    Pass,
}

/// What a packet would meet. The names of its fields are an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What becomes of it.
    pub verdict: Outcome,
    /// Why: a reason's name; `FORWARD` where it is forwarded.
    pub reason: String,
    /// `namespace/name:port`, without the colon where the port has no name; `None` where the
    /// packet is no Service's.
    pub service: Option<String>,
    /// All backends that a new flow like this may get, sorted as text; empty unless forwarded.
    pub candidates: Vec<String>,
    /// The backend that it gets; `None` where that is left to chance, or none does.
    pub backend: Option<String>,
    /// Whether the client's address is replaced.
    pub masquerade: bool,
}

/// An answer, and the path that leads there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The answer.
    pub answer: Answer,
    /// The pod behind the chosen backend, as `namespace/name`, where known.
    pub pod: Option<String>,
    /// What the packet passes, in order; the last one decides.
    pub steps: Vec<Step>,
    /// What an operator does next, where the packet is not forwarded.
    pub next_step: Option<String>,
    /// The Service's other endpoints, the first of them.
    pub others: Vec<Other>,
    /// How many more there are.
    pub others_left: usize,
}

/// A stage of the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub stage: String,
    /// What it found, a word or a name.
    pub outcome: String,
    /// More of it.
    pub detail: String,
}

/// An endpoint that the packet does not reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    /// Its address and port.
    pub backend: String,
    /// Why not.
    pub why: String,
}

impl Outcome {
    /// The word that a screen begins with.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Forward => "FORWARD",
            Self::Reject => "REJECT",
            Self::Drop => "DROP",
            Self::Pass => "PASS",
        }
    }
}

impl Step {
    pub(super) fn new(stage: &str, outcome: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { stage: stage.to_owned(), outcome: outcome.into(), detail: detail.into() }
    }
}
