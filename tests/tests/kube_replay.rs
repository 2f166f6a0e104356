//! What a real API server sent, sent again: the model must end where the server's last lists end,
//! and every recorded refusal must be survived.

use anyhow::Result;
use std::sync::Arc;
use tidegate_control::model::ClusterState;
use tidegate_tests::replay::{Asked, Replay};
use tidegate_tests::watching::Watching;

const KINDS: [&str; 3] = ["services", "endpointslices", "nodes"];

/// A recorded refusal of the wish for a streaming list: 422.
const NO_STREAMING: &str = "errors/422-send-initial-events-without-match.watch";

/// Lists of all kinds, by pages, from recordings `KIND.NAME`.
fn lists(replay: &Replay, name: &str) -> Result<()> {
    for kind in KINDS {
        replay.answer(kind, Asked::Streaming, NO_STREAMING)?;
        replay.answer(kind, Asked::List, &format!("{kind}.{name}"))?;
    }
    Ok(())
}

async fn first_state(replay: &Replay) -> Result<Watching> {
    let mut watching = Watching::start(&replay.kubeconfig()?)?;
    watching.wait_until("the first state", |w| w.wholes == 1).await?;
    Ok(watching)
}

/// The state of a server's lists.
async fn state_of(name: &str) -> Result<Arc<ClusterState>> {
    let replay = Replay::start().await?;
    lists(&replay, name)?;
    Ok(first_state(&replay).await?.state)
}

#[tokio::test]
async fn the_recorded_watch_ends_in_the_final_lists() -> Result<()> {
    let last = state_of("final.list").await?;
    let replay = Replay::start().await?;
    lists(&replay, "list")?;
    let mut watching = first_state(&replay).await?;
    assert_ne!(watching.state, last);
    for kind in KINDS {
        replay.answer(kind, Asked::Watch, &format!("{kind}.watch"))?;
    }
    // The watches that found no answer are held; new ones come when the source begins anew.
    drop(watching);
    lists(&replay, "list")?;
    watching = first_state(&replay).await?;
    watching.wait_until("the final lists' state", |w| w.state == last).await?;
    assert_eq!((replay.remaining(), watching.wholes), (0, 1));
    assert_eq!(watching.notes.warnings, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn the_recorded_streaming_lists_end_in_the_final_lists() -> Result<()> {
    let last = state_of("final.list").await?;
    let replay = Replay::start().await?;
    for kind in KINDS {
        replay.answer(kind, Asked::Streaming, &format!("{kind}.streaming"))?;
    }
    let mut watching = first_state(&replay).await?;
    watching.wait_until("the final lists' state", |w| w.state == last).await?;
    assert_eq!(watching.notes.listing, Some("streaming"));
    assert!(!last.services.is_empty() && !last.slices.is_empty() && last.nodes.len() == 1);
    Ok(())
}

#[tokio::test]
async fn the_recorded_pages_are_the_final_list() -> Result<()> {
    let last = state_of("final.list").await?;
    let replay = Replay::start().await?;
    for kind in KINDS {
        replay.answer(kind, Asked::Streaming, NO_STREAMING)?;
    }
    for kind in ["services", "nodes"] {
        replay.answer(kind, Asked::List, &format!("{kind}.final.list"))?;
    }
    for page in 1..=6 {
        replay.answer(
            "endpointslices",
            Asked::List,
            &format!("endpointslices.page-{page}.list"),
        )?;
    }
    assert_eq!(first_state(&replay).await?.state, last);
    Ok(())
}

#[tokio::test]
async fn recorded_refusals_of_lists_are_survived() -> Result<()> {
    let expected = state_of("list").await?;
    for (refusal, words) in [
        ("errors/401-bad-token.list", "Unauthorized (401)"),
        ("errors/403-no-token.list", "services is forbidden"),
        ("errors/restart-1-403.list", "services is forbidden"),
        ("errors/429.list", "Too many requests"),
        ("errors/504-future-resource-version.list", "Too large resource version"),
        ("errors/410-services.exact.list", "(410)"),
    ] {
        let replay = Replay::start().await?;
        replay.answer("services", Asked::List, refusal)?;
        lists(&replay, "list")?;
        let watching = first_state(&replay).await?;
        assert_eq!(watching.state, expected, "{refusal}");
        assert!(watching.refusals.join("\n").contains(words), "{:?}", watching.refusals);
    }
    Ok(())
}

#[tokio::test]
async fn a_recorded_list_whose_token_expires_is_begun_anew() -> Result<()> {
    let expected = state_of("list").await?;
    let replay = Replay::start().await?;
    replay.answer("services", Asked::List, "errors/410-services.page-1.list")?;
    replay.answer("services", Asked::List, "errors/410-services.continue.list")?;
    lists(&replay, "list")?;
    let watching = first_state(&replay).await?;
    assert_eq!((&watching.state, replay.remaining()), (&expected, 0));
    assert!(watching.refusals.join("\n").contains("(410)"), "{:?}", watching.refusals);
    Ok(())
}

#[tokio::test]
async fn recorded_refusals_of_watches_are_survived() -> Result<()> {
    let last = state_of("final.list").await?;
    for refusal in [
        "errors/401-bad-token.watch",
        "errors/429.watch",
        "errors/500-bad-resource-version.watch",
        "errors/410-services.watch",
    ] {
        let replay = Replay::start().await?;
        replay.answer("services", Asked::Watch, refusal)?;
        lists(&replay, "list")?;
        // After 410 the list is asked for again; after the others the watch.
        replay.answer("services", Asked::List, "services.list")?;
        for kind in KINDS {
            replay.answer(kind, Asked::Watch, &format!("{kind}.watch"))?;
        }
        let mut watching = first_state(&replay).await?;
        watching.wait_until(refusal, |w| w.state == last).await?;
        assert!(!watching.refusals.is_empty(), "{refusal}");
    }
    Ok(())
}

#[tokio::test]
async fn a_recorded_error_in_a_streaming_list_is_survived() -> Result<()> {
    let last = state_of("final.list").await?;
    let replay = Replay::start().await?;
    let refusal = "errors/504-future-resource-version.streaming";
    replay.answer("services", Asked::Streaming, refusal)?;
    for kind in KINDS {
        replay.answer(kind, Asked::Streaming, &format!("{kind}.streaming"))?;
    }
    let mut watching = first_state(&replay).await?;
    watching.wait_until("the final lists' state", |w| w.state == last).await?;
    assert!(watching.refusals.join("\n").contains("(504)"), "{:?}", watching.refusals);
    Ok(())
}
