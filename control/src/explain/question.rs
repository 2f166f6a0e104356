//! The first packet of a flow, as people and scripts name it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use tidegate_dataplane::types::Protocol;

/// The transport protocols that can be asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260. Services may use it; the packet path leaves it to the kernel.
    Sctp,
}

/// The first packet of a flow: TCP with SYN, UDP, or any of SCTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Words", into = "Words")]
pub struct Question {
    /// The protocol.
    pub transport: Transport,
    /// Who sends it.
    pub source: SocketAddr,
    /// Whom it is for; of the source's family.
    pub destination: SocketAddr,
}

/// A question that names no packet. Text is a sentence's second half: "it names ...".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// None of the three protocols.
    #[error("`{0}` is no protocol: tcp, udp or sctp")]
    Protocol(String),
    /// Not an address with a port.
    #[error("`{0}` is not ADDRESS:PORT, as 192.0.2.7:41522 or [2001:db8::7]:41522")]
    Endpoint(String),
    /// IPv4 to IPv6, or the other way round.
    #[error("{0} and {1} are not of one family")]
    Families(SocketAddr, SocketAddr),
}

/// The form of a line of `--flows`, and of the admin interface.
#[derive(Serialize, Deserialize)]
struct Words {
    proto: String,
    src: String,
    dst: String,
}

impl Question {
    /// The packet from `source` to `destination`. IPv4 addresses in IPv6's mapped form are taken
    /// as IPv4, which is what the wire carries.
    ///
    /// # Errors
    /// The two are not of one family.
    pub fn new_checked(
        transport: Transport,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Result<Self, QuestionError> {
        let (source, destination) = (canonical(source), canonical(destination));
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(QuestionError::Families(source, destination));
        }
        Ok(Self { transport, source, destination })
    }

    /// The packet that these three words name.
    ///
    /// # Errors
    /// One of them is wrong, or the two addresses are not of one family.
    pub fn from_words(proto: &str, src: &str, dst: &str) -> Result<Self, QuestionError> {
        let transport = proto.parse()?;
        let end =
            |text: &str| text.trim().parse().map_err(|_e| QuestionError::Endpoint(text.to_owned()));
        Self::new_checked(transport, end(src)?, end(dst)?)
    }
}

/// Without IPv6's scope and flow label, which no front has.
fn canonical(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(IpAddr::to_canonical(&end.ip()), end.port())
}

impl TryFrom<Words> for Question {
    type Error = QuestionError;

    fn try_from(words: Words) -> Result<Self, Self::Error> {
        Self::from_words(&words.proto, &words.src, &words.dst)
    }
}

impl From<Question> for Words {
    fn from(question: Question) -> Self {
        let Question { transport, source, destination } = question;
        Self { proto: transport.to_string(), src: source.to_string(), dst: destination.to_string() }
    }
}

impl Transport {
    /// The same as the packet path's protocol; `None` where it forwards none such.
    pub fn forwarded(self) -> Option<Protocol> {
        match self {
            Self::Tcp => Some(Protocol::Tcp),
            Self::Udp => Some(Protocol::Udp),
            Self::Sctp => None,
        }
    }
}

impl FromStr for Transport {
    type Err = QuestionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(QuestionError::Protocol(text.to_owned())),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_are_read_and_written() {
        for (src, dst) in
            [("10.0.0.1:1", "10.0.0.2:65535"), ("[2001:db8::1]:1", "[2001:db8::2]:80")]
        {
            let question = Question::from_words("Udp", src, dst).unwrap();
            let line = serde_json::to_string(&question).unwrap();
            assert_eq!(line, format!(r#"{{"proto":"UDP","src":"{src}","dst":"{dst}"}}"#));
            assert_eq!(serde_json::from_str::<Question>(&line).unwrap(), question);
        }
    }

    #[test]
    fn what_names_no_packet_is_refused_with_the_word() {
        for (words, blamed) in [
            (["icmp", "10.0.0.1:1", "10.0.0.2:2"], "icmp"),
            (["tcp", "10.0.0.1", "10.0.0.2:2"], "10.0.0.1"),
            (["tcp", "10.0.0.1:1", "10.0.0.2:65536"], "10.0.0.2:65536"),
            (["tcp", "10.0.0.1:1", "[::1]:2"], "family"),
        ] {
            let [proto, src, dst] = words;
            let error = Question::from_words(proto, src, dst).unwrap_err().to_string();
            assert!(error.contains(blamed), "{error}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let question = Question::from_words("tcp", "[::ffff:10.0.0.1]:1", "10.0.0.2:2").unwrap();
        assert_eq!(question.source.to_string(), "10.0.0.1:1");
    }
}
