//! `tidegate explain`: what a packet would meet. Exit code 0 if it is forwarded, 10 if it is
//! dropped or rejected, 11 if the kernel has it.

use crate::admin::Client;
use crate::cli::dispatch::runtime;
use crate::cli::output::print;
use crate::cli::verb::config;
use crate::cli::view;
use crate::config::{Config, node_name};
use crate::explain::{Answer, Explanation, Offline, OfflineState, Outcome, Question};
use crate::fault::{Exit, Fault};
use crate::source::load_once;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::runtime::Runtime;

/// Arguments of `tidegate explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// tcp, udp or sctp
    #[arg(value_name = "PROTO", required_unless_present = "flows", requires = "destination")]
    protocol: Option<String>,
    /// Who sends the packet: 198.51.100.7:41522, [2001:db8::7]:41522
    #[arg(value_name = "SRC:PORT")]
    source: Option<String>,
    /// Whom it is for
    #[arg(value_name = "DST:PORT", requires = "source")]
    destination: Option<String>,
    /// Ask these manifests (file or folder, may be repeated) and not the daemon
    #[arg(long, value_name = "PATH")]
    state: Vec<PathBuf>,
    /// The node that gets the packet; as the daemon finds it where none is named
    #[arg(long, value_name = "NAME", requires = "state")]
    node: Option<String>,
    /// An address of the node, beside those of its Node object; may be repeated
    #[arg(long, value_name = "IP", requires = "state")]
    node_ip: Vec<IpAddr>,
    /// The daemon's configuration file; the defaults where none is named
    #[arg(long, value_name = "FILE", requires = "state")]
    config: Option<PathBuf>,
    /// Many packets: a file of JSON lines {"proto","src","dst"}, `-` for stdin; an answer each
    #[arg(long, value_name = "FILE", conflicts_with = "protocol")]
    flows: Option<PathBuf>,
    /// Form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: ExplainFormat,
}

/// Forms of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExplainFormat {
    /// For people: the path.
    Table,
    /// The answer alone, as one line of JSON.
    Json,
}

/// Who is asked.
enum Oracle {
    Files(Box<Offline>),
    Daemon(Client, Runtime),
}

/// Prints what the packet would meet.
///
/// # Errors
/// The manifests, the configuration or the packet's words are wrong, or the daemon is away.
pub fn run(client: Client, args: ExplainArgs) -> Result<ExitCode, Fault> {
    if let Some(file) = args.flows.clone() {
        return answer_all(&Oracle::new(client, args)?, open(&file)?);
    }
    let question = question(&args)?;
    let format = args.output;
    let oracle = Oracle::new(client, args)?;
    let explanation = oracle.explain(&question)?;
    let code = exit_code(explanation.answer.verdict);
    match format {
        ExplainFormat::Table => print(&view::explain::screen(&explanation))?,
        ExplainFormat::Json => print(&line(&explanation.answer)?)?,
    }
    Ok(code)
}

fn question(args: &ExplainArgs) -> Result<Question, Fault> {
    let word = |word: &Option<String>| word.clone().unwrap_or_default();
    let [protocol, source, destination] =
        [&args.protocol, &args.source, &args.destination].map(word);
    let question = Question::from_words(&protocol, &source, &destination);
    question.map_err(|error| Fault::new(Exit::Usage, error.to_string()))
}

fn exit_code(verdict: Outcome) -> ExitCode {
    match verdict {
        Outcome::Forward => ExitCode::SUCCESS,
        Outcome::Drop | Outcome::Reject => ExitCode::from(10),
        Outcome::Pass => ExitCode::from(11),
    }
}

impl Oracle {
    fn new(client: Client, args: ExplainArgs) -> Result<Self, Fault> {
        if args.state.is_empty() {
            return Ok(Self::Daemon(client, runtime()?));
        }
        let config = args.config.as_deref().map_or_else(|| Ok(Config::default()), config::read)?;
        let cluster = load_once(&args.state)
            .map_err(|error| Fault::new(Exit::Failed, format!("failed to {error}")))?;
        let node = args.node.unwrap_or_else(|| node_name(&config.hostname_override));
        let offline = Offline::new(OfflineState { cluster, node, addresses: args.node_ip, config });
        offline.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        Ok(Self::Files(Box::new(offline)))
    }

    fn explain(&self, question: &Question) -> Result<Explanation, Fault> {
        match self {
            Self::Files(offline) => Ok(offline.explainer().explain(question)),
            Self::Daemon(client, runtime) => {
                Ok(runtime.block_on(client.ask("/api/v1/explain", question))?)
            }
        }
    }

    /// All of them over one explainer: it costs more to make than an answer.
    fn answerer(&self) -> impl Fn(&Question) -> Result<Answer, Fault> {
        let explainer = match self {
            Self::Files(offline) => Some(offline.explainer()),
            Self::Daemon(..) => None,
        };
        move |question| match &explainer {
            Some(explainer) => Ok(explainer.answer(question)),
            None => Ok(self.explain(question)?.answer),
        }
    }
}

/// Answers line by line, so that a script may ask, read and ask again.
fn answer_all(oracle: &Oracle, input: impl BufRead) -> Result<ExitCode, Fault> {
    let answer = oracle.answerer();
    let mut code = ExitCode::SUCCESS;
    for asked in input.split(b'\n') {
        let asked = asked.map_err(|e| Fault::from_error(Exit::Failed, "read the flows", &e))?;
        match serde_json::from_slice::<Question>(&asked) {
            Ok(question) => print(&line(&answer(&question)?)?)?,
            Err(error) => {
                code = ExitCode::FAILURE;
                print(&line(&BadLine { error: error.to_string() })?)?;
            }
        }
    }
    Ok(code)
}

/// The answer to a line that names no packet.
#[derive(Serialize)]
struct BadLine {
    error: String,
}

fn line<T: Serialize>(answer: &T) -> Result<String, Fault> {
    let text = serde_json::to_string(answer);
    let text = text.map_err(|error| Fault::from_error(Exit::Failed, "write JSON", &error))?;
    Ok(text + "\n")
}

fn open(file: &PathBuf) -> Result<Box<dyn BufRead>, Fault> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let opened = File::open(file);
    let what = format!("open {}", file.display());
    let opened = opened.map_err(|error| Fault::from_error(Exit::Failed, &what, &error))?;
    Ok(Box::new(BufReader::new(opened)))
}
