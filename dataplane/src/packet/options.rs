//! IPv4 options (RFC 791 section 3.1), as far as they decide whether a packet goes on.

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// False where the options do not fit, or name the way that the packet shall take: the kernel drops
/// both, the latter unless `accept_source_route` is set, which is off by default (RFC 7126 sections
/// 4.3 and 4.4). `options` is what stands between the fixed header and the payload.
#[cold]
pub fn are_acceptable(mut options: &[u8]) -> bool {
    while let [kind, rest @ ..] = options {
        let length = match *kind {
            END => return true,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return false,
            NO_OPERATION => 1,
            _ => match rest.first() {
                Some(length) if *length >= 2 => usize::from(*length),
                _ => return false,
            },
        };
        let Some(behind) = options.get(length..) else { return false };
        options = behind;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_route_is_found_wherever_it_stands() {
        for kind in [LOOSE_SOURCE_ROUTE, STRICT_SOURCE_ROUTE] {
            let route = [kind, 7, 4, 192, 0, 2, 1];
            assert!(!are_acceptable(&[&route[..], &[0]].concat()));
            assert!(!are_acceptable(&[&[1, 0x82, 4, 1, 2][..], &route].concat()));
            assert!(are_acceptable(&[&[1, 0][..], &route].concat()), "behind the end of the list");
            assert!(are_acceptable(&[0x82, 4, kind, kind]), "within another option");
        }
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        let record_route = [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(are_acceptable(&record_route) && are_acceptable(&[]) && are_acceptable(&[1; 40]));
        for bad in [&[7][..], &[7, 0], &[7, 1], &[7, 3], &record_route[..9]] {
            assert!(!are_acceptable(bad), "{bad:?}");
        }
    }
}
