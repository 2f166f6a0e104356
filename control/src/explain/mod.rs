//! `tidegate explain`: what a new flow would meet. It has no rules of its own: a real frame goes
//! through the pipeline that the workers run, over a compiled snapshot and an empty flow table,
//! and the answer is read from what came out. Start at [`Explainer`].

mod answer;
mod explainer;
mod frame;
mod offline;
mod path;
mod question;
mod trial;

pub use answer::{Answer, Explanation, Other, Outcome, Step};
pub use explainer::Explainer;
pub(crate) use explainer::end;
pub use offline::{Offline, OfflineState};
pub use question::{Question, QuestionError, Transport};
pub use trial::NOT_NODEPORT_ADDRESS;
