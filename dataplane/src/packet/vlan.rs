//! 802.1Q tags (IEEE 802.1Q section 9.6): taken out of a frame before the stages read it, and put
//! back where it leaves.

use crate::packet::headers::ETHERNET_BYTES;

/// Bytes of a tag in a frame.
pub const TAG_BYTES: usize = 4;

/// Where it stands: behind the two addresses.
const TAG_OFFSET: usize = ETHERNET_BYTES - 2;

/// The type that a tag begins with.
const ETHERTYPE: [u8; 2] = [0x81, 0x00];

/// A tag's priority and VLAN as they stand in the frame, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VlanTag([u8; 2]);

impl VlanTag {
    /// No tag. Its bits are those of VLAN 4095, which is reserved and never in use.
    pub const NONE: Self = Self([0xff, 0xff]);

    /// Whether there is one.
    #[inline]
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }
}

/// Takes the tag out of a frame; what is behind it moves up. `None` where there is none, or it is
/// followed by another, and then nothing has changed.
#[cold]
pub(crate) fn take(frame: &mut [u8]) -> Option<VlanTag> {
    let (tag, rest) = frame.get(TAG_OFFSET..)?.split_first_chunk::<TAG_BYTES>()?;
    let [type_high, type_low, tag_high, tag_low] = *tag;
    let tag = VlanTag([tag_high, tag_low]);
    let is_doubled = matches!(rest, [0x81, 0x00, ..] | [0x88, 0xa8, ..]);
    if [type_high, type_low] != ETHERTYPE || is_doubled || !tag.is_some() {
        return None;
    }
    frame.copy_within(TAG_OFFSET + TAG_BYTES.., TAG_OFFSET);
    Some(tag)
}

/// Puts a tag into the frame of `len` bytes at the start of `buffer`. `None` where the buffer has
/// no room, and then nothing has changed.
#[cold]
pub(crate) fn put(buffer: &mut [u8], len: usize, tag: VlanTag) -> Option<()> {
    let frame = buffer.get_mut(..len + TAG_BYTES)?;
    let place = TAG_OFFSET + TAG_BYTES;
    if len < TAG_OFFSET {
        return None;
    }
    frame.copy_within(TAG_OFFSET..len, place);
    let ([type_high, type_low], VlanTag([tag_high, tag_low])) = (ETHERTYPE, tag);
    frame.get_mut(TAG_OFFSET..place)?.copy_from_slice(&[type_high, type_low, tag_high, tag_low]);
    Some(())
}

/// The frame without its tag, as far as those read it who need no addresses of the link: the bytes
/// before the type of what the tag is for stand in their place.
pub(crate) fn behind(frame: &mut [u8]) -> &mut [u8] {
    let is_tagged = frame.get(TAG_OFFSET..).is_some_and(|rest| rest.starts_with(&ETHERTYPE));
    frame.get_mut(if is_tagged { TAG_BYTES } else { 0 }..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses, a tag, the type IPv4, and a byte of it.
    const TAGGED: [u8; 19] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x81, 0, 0x60, 7, 8, 0, 0x45];

    #[test]
    fn a_tag_taken_out_and_put_back_changes_nothing() {
        let mut frame = TAGGED;
        let tag = take(&mut frame).unwrap();
        assert_eq!(tag, VlanTag([0x60, 7]));
        assert_eq!(frame[..15], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 0, 0x45]);
        put(&mut frame, 15, tag).unwrap();
        assert_eq!(frame, TAGGED);
    }

    #[test]
    fn a_priority_without_a_vlan_is_a_tag_and_the_reserved_vlan_is_none() {
        let with = |tag: [u8; 2]| {
            let mut frame = TAGGED;
            frame[14..16].copy_from_slice(&tag);
            take(&mut frame)
        };
        assert_eq!(with([0, 0]), Some(VlanTag([0, 0])));
        assert_eq!(with([0xff, 0xff]), None);
    }

    #[test]
    fn what_is_not_one_tag_is_left_alone() {
        let mut doubled = TAGGED;
        doubled[16..18].copy_from_slice(&[0x81, 0]);
        let mut untagged = TAGGED;
        untagged[12..14].copy_from_slice(&[8, 0]);
        for frame in [doubled, untagged] {
            let mut after = frame;
            assert_eq!((take(&mut after), after), (None, frame));
        }
        for len in 0..16 {
            assert_eq!(take(&mut TAGGED.to_vec()[..len]), None, "{len}");
        }
    }

    #[test]
    fn without_room_no_tag_is_put() {
        let mut frame = TAGGED;
        assert_eq!(put(&mut frame, 16, VlanTag([0, 1])), None);
        assert_eq!(frame, TAGGED);
    }
}
