//! Which part of its flow a packet is.

use super::*;
use crate::stats::Traffic;

#[test]
fn the_first_packet_of_a_flow_is_told_from_later_ones_and_from_replies() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let question = udp_frame(&client(family), family.front(), b"question");
        let mut buffers = [question.clone(), question.clone()];
        let mut packets: Vec<_> =
            buffers.iter_mut().map(|b| Packet::new(b, question.len(), OUTER)).collect();
        pipeline.process(&mut packets, &snapshot, NOW);
        let told: Vec<_> = packets.iter().map(|packet| packet.traffic).collect();
        assert_eq!(told, [Traffic::NewFlow, Traffic::Established]);
        let (snat, backend) = ends(packets[0].bytes());
        let mut answer = udp_frame(&backend, &snat, b"answer");
        let len = answer.len();
        let mut packet = Packet::new(&mut answer, len, INNER);
        pipeline.process(core::slice::from_mut(&mut packet), &snapshot, NOW);
        assert_eq!((packet.verdict, packet.traffic), (Verdict::Forward(OUTER), Traffic::Reply));
    }
}
