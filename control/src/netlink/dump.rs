//! Tables of the kernel, whole: one that changed while it was listed is listed again.
//!
//! Wants connections that forward the message at the end of a list (`set_forward_done`): it may say
//! that the list broke off, or that it is not of one piece.

use super::error::NetlinkError;
use ethtool::EthtoolMessage;
use futures::{Stream, StreamExt};
use genetlink::GenetlinkError;
use netlink_packet_generic::GenlMessage;
use rtnetlink::Handle;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use std::io;

/// So often a table is listed that changes each time. Fewer gives up where a node starts a hundred
/// pods; more keeps the other tables waiting.
const TRIES_MAX: u32 = 5;

/// The table that `request` names.
///
/// # Errors
/// The kernel refused, or the table changed each time.
pub(super) async fn table(
    handle: &Handle,
    what: &'static str,
    request: RouteNetlinkMessage,
) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
    let ask = || {
        let mut message = NetlinkMessage::from(request.clone());
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut handle = handle.clone();
        async move {
            let answers = handle.request(message).map_err(io::Error::other)?;
            Ok(answers.map(Ok))
        }
    };
    whole(what, ask).await
}

/// What ethtool tells of every interface; nothing where the kernel has no ethtool netlink.
///
/// # Errors
/// As [`table`].
pub(super) async fn ethtool(
    what: &'static str,
    request: &EthtoolMessage,
) -> Result<Vec<EthtoolMessage>, NetlinkError> {
    let (mut connection, handle, _no_events) = match ethtool::new_connection() {
        Ok(parts) => parts,
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    connection.set_forward_done(true);
    let connection = tokio::spawn(connection);
    let ask = || {
        let mut message = NetlinkMessage::from(GenlMessage::from_payload(request.clone()));
        // As ethtool's own lists ask: without ACK an answer of one message ends the list.
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP | NLM_F_ACK;
        let mut handle = handle.handle.clone();
        async move {
            let answers = handle.request(message).await.map_err(words)?;
            Ok(answers.map(|answer| answer.map_err(|error| io::Error::other(error.to_string()))))
        }
    };
    let told = whole(what, ask).await;
    connection.abort();
    match told {
        // So the kernel answers who asks for a family that it has not.
        Err(NetlinkError::List { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(Vec::new())
        }
        told => Ok(told?.into_iter().map(|message| message.payload).collect()),
    }
}

fn words(error: GenetlinkError) -> io::Error {
    match error {
        GenetlinkError::NetlinkError(error) => error,
        other => io::Error::other(other),
    }
}

/// What `ask` has the kernel list, once that is of one piece.
async fn whole<T, S, F>(
    what: &'static str,
    mut ask: impl FnMut() -> F,
) -> Result<Vec<T>, NetlinkError>
where
    F: Future<Output = io::Result<S>>,
    S: Stream<Item = io::Result<NetlinkMessage<T>>>,
{
    let refused = |source| NetlinkError::List { what, source };
    for _ in 0..TRIES_MAX {
        let answers = ask().await.map_err(refused)?;
        if let Some(all) = once(answers).await.map_err(refused)? {
            return Ok(all);
        }
        tracing::debug!(what, "changed while it was listed; listing it again");
    }
    Err(NetlinkError::Interrupted { what, tries: TRIES_MAX })
}

/// One list; `None` where the table changed meanwhile: what is in it may be missing here (netlink's
/// `NLM_F_DUMP_INTR`).
async fn once<T>(
    answers: impl Stream<Item = io::Result<NetlinkMessage<T>>>,
) -> io::Result<Option<Vec<T>>> {
    let mut answers = std::pin::pin!(answers);
    let (mut all, mut is_interrupted) = (Vec::new(), false);
    while let Some(answer) = answers.next().await {
        let message = answer?;
        is_interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
        match message.payload {
            NetlinkPayload::InnerMessage(entry) => all.push(entry),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            NetlinkPayload::Done(end) if end.code < 0 => {
                return Err(io::Error::from_raw_os_error(-end.code));
            }
            NetlinkPayload::Done(_) => return Ok((!is_interrupted).then_some(all)),
            _ => {}
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the netlink socket was closed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use rtnetlink::packet_core::{DoneMessage, ErrorMessage, NetlinkHeader};

    type Answer = NetlinkMessage<u8>;

    fn answer(payload: NetlinkPayload<u8>, flags: u16) -> Answer {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
        message.header.flags = flags;
        message
    }

    fn entry(value: u8, flags: u16) -> Answer {
        answer(NetlinkPayload::InnerMessage(value), flags)
    }

    fn end(code: i32, flags: u16) -> Answer {
        let mut done = DoneMessage::default();
        done.code = code;
        answer(NetlinkPayload::Done(done), flags)
    }

    async fn listed(answers: Vec<Answer>) -> io::Result<Option<Vec<u8>>> {
        once(stream::iter(answers).map(Ok)).await
    }

    /// Asks until it is whole, and tells how often it asked; the last list is told again and again.
    async fn asked(lists: Vec<fn() -> Vec<Answer>>) -> (Result<Vec<u8>, NetlinkError>, usize) {
        let mut count = 0;
        let ask = || {
            let list = lists[count.min(lists.len() - 1)]();
            count += 1;
            async move { Ok(stream::iter(list).map(Ok)) }
        };
        let told = whole("things", ask).await;
        (told, count)
    }

    #[tokio::test]
    async fn a_table_that_changed_while_it_was_listed_is_listed_again() {
        let in_an_entry = || vec![entry(1, 0), entry(2, NLM_F_DUMP_INTR), end(0, 0)];
        let at_the_end = || vec![entry(1, 0), end(0, NLM_F_DUMP_INTR)];
        let good = || vec![entry(1, 0), entry(2, 0), entry(3, 0), end(0, 0)];
        let (told, count) = asked(vec![in_an_entry, at_the_end, good]).await;
        assert_eq!((told.unwrap(), count), (vec![1, 2, 3], 3));
    }

    #[tokio::test]
    async fn a_table_that_always_changes_is_given_up() {
        let (told, count) = asked(vec![|| vec![end(0, NLM_F_DUMP_INTR)]]).await;
        assert_eq!(count, 5);
        let words = told.unwrap_err().to_string();
        assert_eq!(words, "list things: they changed while they were listed, 5 times in a row");
    }

    #[tokio::test]
    async fn a_list_that_breaks_off_is_no_list() {
        let mut refusal = ErrorMessage::default();
        refusal.code = core::num::NonZeroI32::new(-libc::EPERM);
        let refused = listed(vec![answer(NetlinkPayload::Error(refusal), 0)]).await;
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EPERM));
        let half_way = listed(vec![entry(1, 0), end(-libc::ENOBUFS, 0)]).await;
        assert_eq!(half_way.unwrap_err().raw_os_error(), Some(libc::ENOBUFS));
        let closed = listed(vec![entry(1, 0)]).await;
        assert_eq!(closed.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
