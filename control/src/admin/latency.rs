//! Latency over HTTP: figures, a percentile distribution, an interval log. Worked out on a thread
//! beside the control loop, out of histograms that it hands over.

use crate::admin::query::{Mailbox, Query, QueryError};
use crate::latency::hgrm;
use crate::latency::hlog::{self, Subject};
use crate::latency::interval::Span;
use crate::latency::measured::{ALL_KINDS, Measured};
use axum::extract::{Query as Parameters, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use tidegate_dataplane::stats::{Stage, Traffic};

/// The routes.
pub(super) fn routes(mailbox: Mailbox) -> Router {
    Router::new()
        .route("/api/v1/latency", get(report))
        .route("/api/v1/latency.json", get(report))
        .route("/api/v1/latency.hgrm", get(distribution))
        .route("/api/v1/latency.hlog", get(log))
        .with_state(mailbox)
}

/// What may stand behind the `?`.
#[derive(Debug, Default, Deserialize)]
struct Wanted {
    /// Of `.hgrm` and `.hlog`: a stage, with `-` for the blank; `total` where there is none.
    stage: Option<String>,
    /// Of `.hgrm` and `.hlog`: a kind of packets; all where there is none.
    kind: Option<String>,
    /// Only intervals that ended within this time, as `10s`.
    window: Option<String>,
    /// Only intervals after this one.
    after: Option<u64>,
}

impl Wanted {
    fn subject(&self) -> Result<Subject, String> {
        let stages = Stage::ALL.iter().map(|stage| (stage.name(), *stage));
        let stage = named("stage", self.stage.as_deref(), Stage::Total, stages)?;
        let kinds = Traffic::ALL.iter().map(|kind| (kind.name(), Some(*kind)));
        let kinds = kinds.chain([(ALL_KINDS, None)]);
        Ok(Subject { stage, kind: named("kind", self.kind.as_deref(), None, kinds)? })
    }

    fn span(&self) -> Result<Span, String> {
        let parse = |text: &String| {
            humantime::parse_duration(text)
                .map_err(|error| format!("window `{text}` is no duration such as 10s: {error}"))
        };
        Ok(Span { window: self.window.as_ref().map(parse).transpose()?, after: self.after })
    }
}

/// The value of a name, as it is or with `-` or `_` for the blank.
fn named<T>(
    what: &str,
    name: Option<&str>,
    default: T,
    values: impl Iterator<Item = (&'static str, T)>,
) -> Result<T, String> {
    let Some(name) = name else { return Ok(default) };
    let spaced = name.replace(['-', '_'], " ");
    let mut names = Vec::new();
    for (known, value) in values {
        if known == spaced {
            return Ok(value);
        }
        names.push(known.replace(' ', "-"));
    }
    Err(format!("no {what} {name}; there are: {}", names.join(", ")))
}

/// Why there is no answer.
enum Refusal {
    /// The question.
    Wrong(String),
    /// The control thread.
    Control(QueryError),
}

impl From<String> for Refusal {
    fn from(words: String) -> Self {
        Self::Wrong(words)
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        Self::Control(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Wrong(words) => (StatusCode::BAD_REQUEST, words + "\n").into_response(),
            Self::Control(error) => error.into_response(),
        }
    }
}

type Asked = (State<Mailbox>, Parameters<Wanted>);

async fn report((State(mailbox), Parameters(wanted)): Asked) -> Result<Response, Refusal> {
    let report = beside(&mailbox, wanted.span()?, |measured| measured.report()).await?;
    Ok(Json(report).into_response())
}

async fn distribution((State(mailbox), Parameters(wanted)): Asked) -> Result<Response, Refusal> {
    let Subject { stage, kind } = wanted.subject()?;
    let write = move |measured: Measured| hgrm::text(&measured.histogram(stage, kind));
    Ok(beside(&mailbox, wanted.span()?, write).await?.into_response())
}

async fn log((State(mailbox), Parameters(wanted)): Asked) -> Result<Response, Refusal> {
    let (subject, span) = (wanted.subject()?, wanted.span()?);
    let intervals = mailbox.ask(|answer| Query::LatencyIntervals(span, answer)).await?;
    let write = move || hlog::text(&intervals.list, subject, intervals.sampled_every);
    let text = tokio::task::spawn_blocking(write).await.map_err(|_cut| QueryError::Stopping)?;
    Ok(text.into_response())
}

/// What `work` makes of a span, or of everything since start or reset.
async fn beside<T: Send + 'static>(
    mailbox: &Mailbox,
    span: Span,
    work: impl FnOnce(Measured) -> T + Send + 'static,
) -> Result<T, QueryError> {
    let done = if span.is_some() {
        let intervals = mailbox.ask(|answer| Query::LatencyIntervals(span, answer)).await?;
        tokio::task::spawn_blocking(move || work(intervals.into())).await
    } else {
        let measured = mailbox.ask(Query::Latency).await?;
        tokio::task::spawn_blocking(move || work(measured)).await
    };
    done.map_err(|_cut| QueryError::Stopping)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_have_a_dash_and_wrong_ones_are_told_with_the_right_ones() {
        let of = |stage: &str, kind: &str| {
            let (stage, kind) = (Some(stage.to_owned()), Some(kind.to_owned()));
            Wanted { stage, kind, ..Wanted::default() }.subject()
        };
        let subject = Subject { stage: Stage::QueueWait, kind: Some(Traffic::NewFlow) };
        assert_eq!(of("queue-wait", "new_flow"), Ok(subject));
        assert_eq!(of("total", "all"), Ok(Subject::ALL));
        assert_eq!(Wanted::default().subject(), Ok(Subject::ALL));
        let stages = "no stage x; there are: queue-wait, forwarding, total";
        assert_eq!(of("x", "all"), Err(stages.to_owned()));
        let kinds = "no kind y; there are: new-flow, established, reply, all";
        assert_eq!(of("total", "y"), Err(kinds.to_owned()));
    }

    #[test]
    fn a_window_is_a_duration() {
        let of = |window: &str| {
            Wanted { window: Some(window.to_owned()), after: Some(3), ..Wanted::default() }.span()
        };
        let ten = Some(std::time::Duration::from_secs(10));
        assert_eq!(of("10s"), Ok(Span { window: ten, after: Some(3) }));
        assert!(of("ten").unwrap_err().contains("no duration such as 10s"));
    }
}
