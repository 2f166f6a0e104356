/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The generator: run by BPF_PROG_TEST_RUN with live frames, it fills each frame with the next
 * flow's packet and sends it out of an interface. Headers are written whole each time, since
 * recycled frames come back as the receiver left them; what follows stays zero, as it came. It
 * keeps the time itself: to begin and end a run costs the kernel milliseconds, so one run has to
 * last.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define HEAD_BYTES 60   /* the least frame: headers, and the least of what follows */
#define PORTS 32768     /* source ports per source address: FLOW_PORTS of src/generator/frame.rs */
#define PORT_FIRST 1024 /* FLOW_PORT_FIRST there */
#define BATCH 64        /* frames that the kernel sends together */
#define LATE_NS 100000  /* later than this, the lost time is not made up for by a burst */
#define WAIT_MAX (1 << 20)
#define SIZES 12        /* SIZES of src/generator/shape.rs */
#define SYN_IP_BYTES 40

/* Set once, before loading. Struct BlastConfig of src/generator/live.rs. */
struct blast_config {
	__u8 template[64]; /* the packet; lengths, source's low half, source port and sums are 0 */
	__u32 ifindex;
	__u32 flows;
	__u32 flow_first;  /* the first packet's */
	__u32 address_low; /* low half of the first source address */
	__u32 ip_sum;      /* of the template's IP header */
	__u32 l4_sum;      /* of its pseudo-header, L4 header and payload */
	__u32 is_tcp;      /* SYNs instead of datagrams */
	__u32 zero;
	__u64 spacing_ps;  /* from one packet to the next; 0 = none */
	__u64 duration_ns; /* nothing is sent after */
	__u16 frame_bytes[SIZES]; /* of one packet after another */
};

const volatile struct blast_config config = {};

/* What was done. Struct BlastState of src/generator/live.rs. */
struct blast_state {
	__u64 start_ns;
	__u64 due_ns; /* the last batch's */
	__u64 sent;
	__u64 flow; /* the next packet's */
};

struct blast_state state = {};
static __u32 turn; /* which of the sizes */

static __always_inline __u16 finish(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static long is_due(__u32 index, void *due_ns)
{
	(void)index;
	return bpf_ktime_get_ns() >= *(__u64 *)due_ns;
}

/* At the start of a batch: waits until it is due. False once the time is over. */
static __always_inline bool await_batch(void)
{
	__u64 now = bpf_ktime_get_ns(), due_ns = state.due_ns + BATCH * config.spacing_ps / 1000;

	if (!state.start_ns) {
		state.start_ns = due_ns = now;
		state.flow = config.flow_first;
	}
	if (now < due_ns)
		bpf_loop(WAIT_MAX, is_due, &due_ns, 0);
	else if (now - due_ns > LATE_NS)
		due_ns = now;
	state.due_ns = due_ns;
	return now - state.start_ns < config.duration_ns;
}

/* The next size; frames come as long as the longest, so that only the others cost a call. */
static __always_inline long next_size(struct xdp_md *ctx)
{
	__u32 at = turn < SIZES ? turn : 0, bytes = config.frame_bytes[at];
	int delta = bytes - (__u32)(ctx->data_end - ctx->data);

	turn = at + 1;
	if (delta && bpf_xdp_adjust_tail(ctx, delta))
		return 0;
	return bytes;
}

static __always_inline void write_lengths_and_sums(void *data, __u32 bytes, __u32 sum)
{
	__u16 ip_bytes = bpf_htons(config.is_tcp ? SYN_IP_BYTES : bytes - 14);
	__u16 udp_bytes = bpf_htons(bytes - 34), l4_sum;
	__u32 address = *(__u16 *)(data + 28);

	*(__u16 *)(data + 16) = ip_bytes;
	*(__u16 *)(data + 24) = finish(config.ip_sum + address + ip_bytes);
	if (config.is_tcp) {
		*(__u16 *)(data + 50) = finish(config.l4_sum + sum);
		return;
	}
	*(__u16 *)(data + 38) = udp_bytes;
	l4_sum = finish(config.l4_sum + sum + 2 * udp_bytes);
	/* A sum of 0 goes out as its complement (RFC 768). */
	*(__u16 *)(data + 40) = l4_sum ? l4_sum : 0xffff;
}

SEC("xdp")
int blast(struct xdp_md *ctx)
{
	const volatile __u32 *template = (const volatile __u32 *)config.template;
	__u16 port, address;
	__u32 flow, bytes;
	void *data, *end;
	__u32 *words;
	int i;

	if (state.sent % BATCH == 0 && !await_batch())
		return XDP_DROP;
	bytes = next_size(ctx);
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (!bytes || data + HEAD_BYTES > end)
		return XDP_ABORTED;
	state.sent++;
	flow = state.flow;
	words = data;
#pragma unroll
	for (i = 0; i < HEAD_BYTES / 4; i++)
		words[i] = template[i];
	state.flow = state.flow + 1 < config.flows ? state.flow + 1 : 0;
	port = bpf_htons(PORT_FIRST + flow % PORTS);
	address = bpf_htons(config.address_low + flow / PORTS);
	*(__u16 *)(data + 28) = address;
	*(__u16 *)(data + 34) = port;
	write_lengths_and_sums(data, bytes, address + port);
	return bpf_redirect(config.ifindex, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
