//! The kernel's rules, as kube-proxy would have set them for so many endpoints.

use core::net::Ipv4Addr;
use tidegate_dataplane::types::Protocol;

/// The rules that `template` stands for. A line with `{number}` is there once for each backend.
pub(super) fn fill(template: &str, backends: &[Ipv4Addr], protocol: Protocol) -> String {
    let choice = |number| format!("{} : goto endpoint-{number}", number - 1);
    let choices: Vec<String> = (1..=backends.len()).map(choice).collect();
    let protocol = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let common = template
        .replace("{protocol}", protocol)
        .replace("{count}", &backends.len().to_string())
        .replace("{choices}", &choices.join(", "));
    common.lines().map(|line| fill_line(line, backends)).collect()
}

fn fill_line(line: &str, backends: &[Ipv4Addr]) -> String {
    if !line.contains("{number}") {
        return format!("{line}\n");
    }
    let one = |(address, number): (&Ipv4Addr, usize)| {
        let text = line
            .replace("{number}", &number.to_string())
            .replace("{address}", &address.to_string())
            .replace("{chance}", &chance(backends.len() + 1 - number));
        text + "\n"
    };
    backends.iter().zip(1..).map(one).collect()
}

/// The match that takes one of the `left` endpoints that no rule before has taken.
fn chance(left: usize) -> String {
    if left == 1 {
        return String::new();
    }
    let share = 1.0 / crate::numbers::float(left as u64);
    format!("-m statistic --mode random --probability {share:.11} ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rivals::bed::rig::backends;

    #[test]
    fn each_endpoint_has_its_lines_and_the_last_takes_the_rest() {
        let template = "head {protocol} {count} {{choices}}\n-A X {chance}-j {number} {address}\n";
        let text = fill(template, &backends(2), Protocol::Tcp);
        let expected = "head tcp 2 {0 : goto endpoint-1, 1 : goto endpoint-2}\n\
            -A X -m statistic --mode random --probability 0.50000000000 -j 1 10.0.0.2\n\
            -A X -j 2 10.0.0.3\n";
        assert_eq!(text, expected);
    }
}
