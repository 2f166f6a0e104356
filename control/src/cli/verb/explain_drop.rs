//! `tidegate explain-drop`: what a reason means and what to do next, as `rustc --explain`.

use crate::cli::output::print;
use crate::cli::view::table::Table;
use crate::explain::NOT_NODEPORT_ADDRESS;
use crate::fault::{Exit, Fault};
use clap::Args;
use tidegate_dataplane::verdict::{DropReason, Kind, PassReason, RejectReason};

/// Arguments of `tidegate explain-drop`.
#[derive(Debug, Args)]
pub struct ExplainDropArgs {
    /// A reason's name, as `tidegate get drops` shows it; all of them without one
    reason: Option<String>,
}

/// What is known of a reason.
struct Entry {
    outcome: &'static str,
    name: &'static str,
    stage: &'static str,
    kind: Kind,
    next_step: &'static str,
}

/// Prints the explanation of one reason, or the table of all.
///
/// # Errors
/// There is no such reason.
pub fn run(args: &ExplainDropArgs) -> Result<(), Fault> {
    let Some(name) = &args.reason else {
        return print(&table());
    };
    let wanted = name.to_ascii_uppercase();
    let found: Vec<_> = entries().filter(|entry| entry.name == wanted).collect();
    if found.is_empty() {
        let what = format!("there is no reason {wanted}");
        return Err(Fault::new(Exit::Failed, what).fix("tidegate explain-drop lists them all"));
    }
    print(&found.iter().map(explanation).collect::<Vec<_>>().join("\n"))
}

fn entries() -> impl Iterator<Item = Entry> {
    macro_rules! of {
        ($outcome:literal, $reasons:ty) => {
            <$reasons>::ALL.iter().map(|reason| Entry {
                outcome: $outcome,
                name: reason.name(),
                stage: reason.stage(),
                kind: reason.kind(),
                next_step: reason.next_step(),
            })
        };
    }
    let (name, stage, next_step) = NOT_NODEPORT_ADDRESS;
    let refined = Entry { outcome: "passed", name, stage, kind: Kind::Config, next_step };
    let counted = of!("dropped", DropReason).chain(of!("rejected", RejectReason));
    counted.chain(of!("passed", PassReason)).chain([refined])
}

fn explanation(entry: &Entry) -> String {
    let concerns = match entry.kind {
        Kind::Config => "the cluster's or the operator's configuration asks for it",
        Kind::Capacity => "a limit was reached",
        Kind::Traffic => "it lies in the packet itself",
        Kind::Bug => "it should never happen; please report it",
    };
    let outcome = match entry.outcome {
        "passed" => "left or given back to the kernel",
        "rejected" => "answered by the gateway, with an ICMP error or a TCP reset",
        other => other,
    };
    format!(
        "{}\n  outcome:   {outcome}, at stage {}\n  kind:      {} ({concerns})\n  next step: {}\n",
        entry.name,
        entry.stage,
        entry.kind.name(),
        entry.next_step
    )
}

fn table() -> String {
    let mut table = Table::new(&["REASON", "OUTCOME", "STAGE", "KIND", "NEXT STEP"]);
    for Entry { outcome, name, stage, kind, next_step } in entries() {
        table.row([name, outcome, stage, kind.name(), next_step]);
    }
    table.render(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_three_outcomes_is_explained_for_each() {
        let found: Vec<_> = entries().filter(|entry| entry.name == "TCP_NOT_SYN").collect();
        let outcomes: Vec<_> = found.iter().map(|entry| entry.outcome).collect();
        assert_eq!(outcomes, ["dropped", "rejected", "passed"]);
    }

    #[test]
    fn an_explanation_ends_with_the_next_step() {
        let entry = entries().find(|entry| entry.name == "FLOW_TABLE_FULL").unwrap();
        let expected = "FLOW_TABLE_FULL\n  outcome:   dropped, at stage flow\n  \
                        kind:      capacity (a limit was reached)\n  \
                        next step: raise conntrack.maxFlows\n";
        assert_eq!(explanation(&entry), expected);
    }

    #[test]
    fn an_unknown_reason_fails() {
        let args = ExplainDropArgs { reason: Some("REASON_14".to_owned()) };
        assert_eq!(run(&args).unwrap_err().exit, Exit::Failed);
    }
}
