//! `tidegate explain`: the numbered path.

use crate::cli::view::table::Table;
use crate::explain::{Explanation, Outcome};

/// The screen.
pub fn screen(explanation: &Explanation) -> String {
    let next = explanation.next_step.iter().map(|next| format!("next: {next}\n"));
    let mut parts = vec![headline(explanation) + "\n", path(explanation)];
    parts.extend(next);
    parts.push(others(explanation));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn headline(explanation: &Explanation) -> String {
    let answer = &explanation.answer;
    let word = answer.verdict.word();
    if answer.verdict != Outcome::Forward {
        return format!("{word} {}", answer.reason);
    }
    let any = || format!("one of {} backends at random", answer.candidates.len());
    let to = answer.backend.clone().unwrap_or_else(any);
    let pod = explanation.pod.iter().map(|pod| format!("   pod {pod}"));
    format!("{word}   to {to}{}", pod.collect::<String>())
}

fn path(explanation: &Explanation) -> String {
    let mut table = Table::new(&[]);
    for (number, step) in (1..).zip(&explanation.steps) {
        let number = format!("{number:>2}");
        table.row([number, step.stage.clone(), step.outcome.clone(), step.detail.clone()]);
    }
    table.render(false)
}

fn others(explanation: &Explanation) -> String {
    let mut table = Table::new(&[]);
    for other in &explanation.others {
        table.row([format!("not {}", other.backend), other.why.clone()]);
    }
    let more = match explanation.others_left {
        0 => String::new(),
        count => format!("and {count} more\n"),
    };
    table.render(false) + &more
}
