/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Both ends of TCP connections, without a stack: each packet is answered from what stands in it,
 * and nothing is kept. The generator sends the SYNs. A connection is six packets:
 *
 *     client  SYN ->       ACK + request ->            FIN/ACK ->       as a short request is made,
 *     server       <- SYN/ACK          <- answer + FIN          <- ACK  answered and closed
 *
 * Nothing is sent twice: what is lost on the way leaves its connection incomplete.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define TCP 6
#define FRAME_BYTES 60
#define TEXT_BYTES 6 /* of a request, and of an answer: what the least frame has room for */
#define WINDOW 0xffff
#define SERVER_SEQUENCE 7000

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

struct packet {
	struct ethhdr eth;
	struct iphdr ip;
	struct tcphdr tcp;
	__u8 text[TEXT_BYTES];
} __attribute__((packed));

/* What was seen. Struct EndsState of src/rivals/bed/ends.rs. */
struct ends_state {
	__u64 opened;    /* SYN/ACKs that reached the client */
	__u64 completed; /* FINs that reached the client: the answer, and the end */
	__u64 reset;     /* by whomever */
};

struct ends_state state = {};

struct seen {
	__u32 sequence; /* host order, as the next */
	__u32 acknowledged;
	__u32 text_bytes;
	__u8 flags;
};

/* 0 if there is a TCP packet, whose header has no options that matter. */
static __always_inline int look(struct xdp_md *ctx, struct seen *seen)
{
	struct packet *packet = (void *)(long)ctx->data;
	__u32 header_bytes;

	if ((void *)&packet->text > (void *)(long)ctx->data_end)
		return -1;
	if (packet->eth.h_proto != bpf_htons(ETH_P_IP) || packet->ip.protocol != TCP)
		return -1;
	if (packet->ip.ihl != 5)
		return -1;
	header_bytes = sizeof(packet->ip) + packet->tcp.doff * 4;
	seen->sequence = bpf_ntohl(packet->tcp.seq);
	seen->acknowledged = bpf_ntohl(packet->tcp.ack_seq);
	seen->text_bytes = bpf_ntohs(packet->ip.tot_len) - header_bytes;
	seen->flags = ((__u8 *)&packet->tcp)[13];
	return 0;
}

static __always_inline __u16 finish(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline __u32 sum_of(const void *bytes, int count)
{
	const __u16 *words = bytes;
	__u32 sum = 0;
	int i;

#pragma unroll
	for (i = 0; i < count / 2; i++)
		sum += words[i];
	return sum;
}

static __always_inline void turn(struct packet *packet)
{
	__u8 mac[ETH_ALEN];
	__be32 address = packet->ip.saddr;
	__be16 port = packet->tcp.source;

	__builtin_memcpy(mac, packet->eth.h_source, ETH_ALEN);
	__builtin_memcpy(packet->eth.h_source, packet->eth.h_dest, ETH_ALEN);
	__builtin_memcpy(packet->eth.h_dest, mac, ETH_ALEN);
	packet->ip.saddr = packet->ip.daddr;
	packet->ip.daddr = address;
	packet->tcp.source = packet->tcp.dest;
	packet->tcp.dest = port;
}

/* Sends the packet back as an answer to itself. */
static __always_inline int answer(struct xdp_md *ctx, struct seen *seen, __u8 flags)
{
	int text_bytes = flags & PSH ? TEXT_BYTES : 0, length = 0;
	struct packet *packet;
	__u32 next = seen->sequence + seen->text_bytes + !!(seen->flags & (SYN | FIN));
	__u16 l4_bytes = bpf_htons(sizeof(packet->tcp) + text_bytes);

	length = FRAME_BYTES - (int)(ctx->data_end - ctx->data);
	if (length && bpf_xdp_adjust_tail(ctx, length))
		return XDP_ABORTED;
	packet = (void *)(long)ctx->data;
	if ((void *)(packet + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	turn(packet);
	packet->ip.tot_len = bpf_htons(sizeof(packet->ip) + sizeof(packet->tcp) + text_bytes);
	packet->ip.id = 0;
	packet->ip.frag_off = bpf_htons(0x4000);
	packet->ip.ttl = 64;
	packet->ip.check = 0;
	packet->ip.check = finish(sum_of(&packet->ip, sizeof(packet->ip)));
	packet->tcp.seq = bpf_htonl(seen->flags & ACK ? seen->acknowledged : SERVER_SEQUENCE);
	packet->tcp.ack_seq = bpf_htonl(next);
	((__u8 *)&packet->tcp)[12] = sizeof(packet->tcp) / 4 << 4;
	((__u8 *)&packet->tcp)[13] = flags;
	packet->tcp.window = bpf_htons(WINDOW);
	packet->tcp.urg_ptr = 0;
	packet->tcp.check = 0;
	__builtin_memset(packet->text, 0, TEXT_BYTES);
	packet->tcp.check = finish(sum_of(&packet->ip.saddr, 8) + bpf_htons(TCP) + l4_bytes +
				   sum_of(&packet->tcp, sizeof(packet->tcp)));
	/* Not XDP_TX: a veth wakes its peer after that only if there is an XDP program too. */
	return bpf_redirect(ctx->ingress_ifindex, 0);
}

SEC("xdp")
int client(struct xdp_md *ctx)
{
	struct seen seen;

	if (look(ctx, &seen))
		return XDP_PASS;
	if (seen.flags & RST) {
		__sync_fetch_and_add(&state.reset, 1);
		return XDP_DROP;
	}
	if (seen.flags & SYN) {
		__sync_fetch_and_add(&state.opened, 1);
		return answer(ctx, &seen, PSH | ACK);
	}
	if (seen.flags & FIN) {
		__sync_fetch_and_add(&state.completed, 1);
		return answer(ctx, &seen, FIN | ACK);
	}
	return XDP_DROP;
}

SEC("xdp")
int server(struct xdp_md *ctx)
{
	struct seen seen;

	if (look(ctx, &seen))
		return XDP_PASS;
	if (seen.flags & RST)
		return XDP_DROP;
	if (seen.flags & SYN)
		return answer(ctx, &seen, SYN | ACK);
	if (seen.flags & FIN)
		return answer(ctx, &seen, ACK);
	if (seen.text_bytes)
		return answer(ctx, &seen, FIN | PSH | ACK);
	return XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
