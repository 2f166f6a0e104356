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

/// Makes padding of the options that stand in the first fragment of a packet alone (RFC 791 section
/// 3.1: the copied flag), as the kernel does. `options` are such as [`are_acceptable`].
#[cold]
pub(crate) fn blank_uncopied(mut options: &mut [u8]) {
    const COPIED: u8 = 0x80;
    while let [kind, rest @ ..] = &mut *options {
        let length = match *kind {
            END => return,
            NO_OPERATION => 1,
            _ => rest.first().map_or(1, |length| usize::from(*length).max(2)),
        };
        let is_copied = *kind & COPIED != 0;
        let Some((option, behind)) = options.split_at_mut_checked(length) else { return };
        if !is_copied {
            option.fill(NO_OPERATION);
        }
        options = behind;
    }
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
    fn later_fragments_have_the_copied_options_alone() {
        let blanked = |options: &[u8]| {
            let mut options = options.to_vec();
            blank_uncopied(&mut options);
            options
        };
        assert_eq!(blanked(&[7, 3, 4, 0x82, 4, 1, 2, 0]), [1, 1, 1, 0x82, 4, 1, 2, 0]);
        assert_eq!(blanked(&[0x82, 4, 7, 3, 1, 68, 3, 5, 0, 7]), [0x82, 4, 7, 3, 1, 1, 1, 1, 0, 7]);
        for bad in [&[][..], &[7], &[7, 0], &[7, 9, 4]] {
            assert_eq!(blanked(bad).len(), bad.len(), "{bad:?}");
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
