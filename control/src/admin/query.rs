//! Questions to the control thread. Each carries the channel for its answer, so the server needs
//! no lock and the control thread no state but its own.

use crate::admin::EventReport;
use crate::admin::report::{
    BackendReport, DropsReport, FlowReport, InterfaceReport, List, NeighborReport, ServiceReport,
    StatusReport, WorkerReport,
};
use crate::explain::{Explanation, Question};
use crate::latency::interval::Span;
use crate::latency::measured::{Intervals, Measured};
use crate::metrics::family::Family;
use k8s_openapi::api::core::v1 as core;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Where an answer goes. A caller that went away is no error.
pub type Answer<T> = oneshot::Sender<T>;

/// Questions that wait at once; further callers wait for room.
const MAILBOX_QUERIES: usize = 64;

/// A scrape asks for the service ports in so many parts: ten thousand of them at once would hold up
/// a change for tens of milliseconds. More parts only cost as many looks at each.
pub const METRIC_PARTS: u32 = 20;

/// How long a caller waits. A control thread that is silent for longer is not alive.
const PATIENCE: Duration = Duration::from_secs(5);

/// A question.
#[derive(Debug)]
pub enum Query {
    /// `/api/v1/status` and `/readyz`.
    Status(Answer<StatusReport>),
    /// `/api/v1/services`.
    Services(Answer<List<ServiceReport>>),
    /// `/api/v1/backends`.
    Backends(Answer<List<BackendReport>>),
    /// `/api/v1/flows`: at most so many.
    Flows(usize, Answer<List<FlowReport>>),
    /// `/api/v1/interfaces`.
    Interfaces(Answer<List<InterfaceReport>>),
    /// `/api/v1/workers` and `/livez`.
    Workers(Answer<List<WorkerReport>>),
    /// `/api/v1/drops`.
    Drops(Answer<DropsReport>),
    /// `/api/v1/neighbors`.
    Neighbors(Answer<List<NeighborReport>>),
    /// `/api/v1/kubernetes/services`: as Kubernetes has them.
    ServiceObjects(Answer<List<core::Service>>),
    /// `/api/v1/kubernetes/endpoints`: as Kubernetes has them.
    EndpointsObjects(Answer<List<core::Endpoints>>),
    /// `/api/v1/events`: the last ones.
    Events(Answer<List<EventReport>>),
    /// `/api/v1/latency`: since start or reset.
    Latency(Answer<Measured>),
    /// `/api/v1/latency` and `.hlog`: by interval.
    LatencyIntervals(Span, Answer<Intervals>),
    /// `/metrics`: what there is to tell but of service ports, and whether native histograms are
    /// wanted.
    Metrics(Answer<(Vec<Family>, bool)>),
    /// `/metrics`: one part of [`METRIC_PARTS`] of what there is to tell of service ports.
    ServiceMetrics(u32, Answer<Vec<Family>>),
    /// `POST /api/v1/explain`.
    Explain(Question, Answer<Explanation>),
    /// `POST /api/v1/latency/reset`.
    ResetLatency(Answer<()>),
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The daemon stops.
    #[error("the control thread is stopping")]
    Stopping,
    /// The control thread does not answer.
    #[error("the control thread did not answer within {} s", PATIENCE.as_secs())]
    Silent,
}

/// The server's end: asks and waits.
#[derive(Debug, Clone)]
pub struct Mailbox(mpsc::Sender<Query>);

/// A mailbox, and the control thread's end of it.
pub fn mailbox() -> (Mailbox, mpsc::Receiver<Query>) {
    let (sender, receiver) = mpsc::channel(MAILBOX_QUERIES);
    (Mailbox(sender), receiver)
}

impl Mailbox {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The control thread is gone or silent.
    pub async fn ask<T>(&self, query: impl FnOnce(Answer<T>) -> Query) -> Result<T, QueryError> {
        let (answer, wait) = oneshot::channel();
        let exchange = async {
            self.0.send(query(answer)).await.ok()?;
            wait.await.ok()
        };
        let answered = tokio::time::timeout(PATIENCE, exchange).await;
        answered.or(Err(QueryError::Silent))?.ok_or(QueryError::Stopping)
    }
}
