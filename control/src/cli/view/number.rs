//! Numbers as people read them: three or four digits and a unit.

use core::time::Duration;

/// A count: exact below ten thousand, then `18.2k`, `1.20M`.
pub fn count(value: u64) -> String {
    if value < 10_000 { value.to_string() } else { scaled(to_float(value)) }
}

/// A rate: `0`, `12.4`, `412.3k`, `1.91G`.
pub fn rate(value: f64) -> String {
    if value >= 1_000.0 {
        return scaled(value);
    }
    trim(format!("{value:.1}"))
}

/// Nanoseconds as `340ns`, `1.1us`, `1.2ms`, `2s`.
pub fn nanoseconds(value: u64) -> String {
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    let value = to_float(value);
    let fits = |&(_, size): &(&str, f64)| value / size < 999.5;
    let (unit, size) = units.into_iter().find(fits).unwrap_or(("s", 1e9));
    let digits = usize::from(value / size < 99.95);
    trim(format!("{:.*}", digits, value / size)) + unit
}

/// An age as kubectl shows it: `now`, `12s`, `4m12s`, `3h5m`, `2d4h`.
pub fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let pair = |large: u64, name: &str, small: u64, small_name: &str| match small {
        0 => format!("{large}{name}"),
        _ => format!("{large}{name}{small}{small_name}"),
    };
    match seconds {
        0 => "now".to_owned(),
        1..60 => format!("{seconds}s"),
        60..3_600 => pair(minutes, "m", seconds % 60, "s"),
        3_600..86_400 => pair(hours, "h", minutes % 60, "m"),
        _ => pair(days, "d", hours % 24, "h"),
    }
}

/// An age as kubectl's AGE column has it: `119s`, `9m59s`, `179m`, `7h5m`, `47h`, `7d3h`, `729d`.
pub fn kubectl_age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let pair = |large: u64, name: &str, small: u64, small_name: &str| match small {
        0 => format!("{large}{name}"),
        _ => format!("{large}{name}{small}{small_name}"),
    };
    match (seconds, minutes, hours, days) {
        (..120, ..) => format!("{seconds}s"),
        (_, ..10, ..) => pair(minutes, "m", seconds % 60, "s"),
        (_, ..180, ..) => format!("{minutes}m"),
        (_, _, ..8, _) => pair(hours, "h", minutes % 60, "m"),
        (_, _, ..48, _) => format!("{hours}h"),
        (.., ..8) => pair(days, "d", hours % 24, "h"),
        (.., ..730) => format!("{days}d"),
        (.., ..2_920) => pair(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// Milliseconds as an age; below a second as they are.
pub fn milliseconds(value: u64) -> String {
    match value {
        0..1_000 => format!("{value}ms"),
        _ => age(Duration::from_millis(value).as_secs()),
    }
}

/// A part of one as per cent: `33.3%`.
pub fn percent(part: f64) -> String {
    trim(format!("{:.1}", part * 100.0)) + "%"
}

fn scaled(value: f64) -> String {
    let units = [("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12)];
    let fits = |&(_, size): &(&str, f64)| value / size < 999.95;
    let (unit, size) = units.into_iter().find(fits).unwrap_or(("T", 1e12));
    let digits = if value / size < 9.995 { 2 } else { 1 };
    format!("{:.*}{unit}", digits, value / size)
}

fn trim(text: String) -> String {
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

#[expect(clippy::cast_precision_loss, reason = "shown with four digits")]
fn to_float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_keep_their_digits_until_they_are_long() {
        let shown = [0, 9_999, 18_204, 999_949, 999_950, 1_204_000, u64::MAX].map(count);
        assert_eq!(shown, ["0", "9999", "18.2k", "999.9k", "1.00M", "1.20M", "18446744.1T"]);
    }

    #[test]
    fn rates_have_one_digit_after_the_point_where_it_tells_something() {
        let shown = [0.0, 12.4, 999.0, 412_300.0, 1.91e9].map(rate);
        assert_eq!(shown, ["0", "12.4", "999", "412.3k", "1.91G"]);
    }

    #[test]
    fn durations_change_their_unit() {
        let shown = [0, 340, 1_100, 48_000, 310_400, 999_600, 1_200_000, 3_000_000_000];
        let expected = ["0ns", "340ns", "1.1us", "48us", "310us", "1ms", "1.2ms", "3s"];
        assert_eq!(shown.map(nanoseconds), expected);
    }

    #[test]
    fn ages_have_two_units_at_most() {
        let shown = [0, 59, 60, 252, 11_100, 86_400, 187_200].map(age);
        assert_eq!(shown, ["now", "59s", "1m", "4m12s", "3h5m", "1d", "2d4h"]);
        assert_eq!([999, 1_000].map(milliseconds), ["999ms", "1s"]);
    }

    #[test]
    fn kubectls_ages_grow_coarser() {
        let (hour, day) = (3_600, 86_400);
        let shown = [119, 120, 599, 600, 179 * 60, 7 * hour + 300, 47 * hour, 7 * day + 3 * hour];
        let expected = ["119s", "2m", "9m59s", "10m", "179m", "7h5m", "47h", "7d3h"];
        assert_eq!(shown.map(kubectl_age), expected);
        let years = [729 * day, 731 * day, 2_920 * day].map(kubectl_age);
        assert_eq!(years, ["729d", "2y1d", "8y"]);
    }

    #[test]
    fn parts_are_per_cent() {
        assert_eq!([0.0, 0.333_3, 1.0].map(percent), ["0%", "33.3%", "100%"]);
    }
}
