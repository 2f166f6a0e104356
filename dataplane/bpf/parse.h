/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * From a frame to its five-tuple, or to the reason why the kernel gets it. Every length is checked
 * before it is used; `src/pipeline/parse.rs` reads the same headers after the redirect.
 */
#ifndef TIDEGATE_PARSE_H
#define TIDEGATE_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "device.h"
#include "steer.h"

/* Which part of a datagram a packet is. */
enum part { WHOLE, FIRST_FRAGMENT, LATER_FRAGMENT };

struct packet {
	struct flow_key key; /* of a later fragment without ports */
	__u32 fragment_id;   /* as on the wire */
	__u8 part;
	bool is_syn; /* TCP, SYN without ACK */
};

/* What the parsers return beside a pass_reason. */
#define PARSED -1

/* The first bytes of an IPv6 extension header (RFC 8200 section 4). */
struct extension {
	__u8 next;
	__u8 length;
	union {
		__u8 routing[2];  /* type, segments left */
		__u8 fragment[2]; /* offset in 8 bytes, and in the last bit whether more follow */
	};
	__u8 fragment_id[4];
};

static __always_inline bool is_same_mac(const __u8 *a, const volatile __u8 *b)
{
	/* Byte by byte: neither address need be aligned. */
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) |
		 (a[5] ^ b[5]));
}

/* Ours as we were told, or as of this moment: to a packet of a live flow the kernel would answer
 * with a reset. */
static __always_inline bool is_own_mac(struct xdp_md *ctx, const __u8 *mac,
				       const struct interface *interface)
{
	const __u8 *now;

	if (is_same_mac(mac, interface->mac))
		return true;
	now = link_address_of(ctx);
	return now && is_same_mac(mac, now);
}

static __always_inline void map_v4(__u8 *address, __u32 v4)
{
	address[10] = 0xff;
	address[11] = 0xff;
	__builtin_memcpy(address + 12, &v4, 4);
}

/* A later fragment has no L4 header; which datagrams are ours, TCP's and UDP's maps tell. */
static __always_inline int parse_part(const struct packet *packet)
{
	bool is_l4 = packet->key.protocol == IPPROTO_TCP || packet->key.protocol == IPPROTO_UDP;

	return packet->part == LATER_FRAGMENT && is_l4 ? PARSED : PASS_FRAGMENT;
}

/* `room` is the length that the IP header grants to the L4 header and its payload. */
static __always_inline int parse_l4(void *l4, void *end, __u32 room, struct packet *packet)
{
	struct udphdr *udp = l4;
	struct tcphdr *tcp = l4;

	if (packet->key.protocol == IPPROTO_TCP) {
		if ((void *)(tcp + 1) > end || room < sizeof(*tcp))
			return PASS_MALFORMED;
		packet->is_syn = tcp->syn && !tcp->ack;
	} else if (packet->key.protocol == IPPROTO_UDP) {
		if ((void *)(udp + 1) > end || room < sizeof(*udp))
			return PASS_MALFORMED;
	} else {
		return packet->part == WHOLE ? PASS_NO_SERVICE : PASS_FRAGMENT;
	}
	/* Both headers begin with the two ports. */
	__builtin_memcpy(packet->key.src_port, &udp->source, 2);
	__builtin_memcpy(packet->key.dst_port, &udp->dest, 2);
	return PARSED;
}

/* An IPv4 address in IPv6's clothes: no host has it (RFC 4291 section 2.5.5.2), and in our keys it
 * would be that IPv4 address. */
static __always_inline bool is_mapped(const struct in6_addr *address)
{
	const __u32 *words = address->in6_u.u6_addr32;

	return !(words[0] | words[1] | (words[2] ^ bpf_htonl(0xffff)));
}

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING ||
	       protocol == IPPROTO_DSTOPTS || protocol == IPPROTO_AH ||
	       protocol == IPPROTO_FRAGMENT;
}

/* More than IPV6_EXTENSIONS_MAX headers of the longest kind; the verifier follows offsets
 * below 64 KiB only. */
#define HEADERS_BYTES_MAX 0x3fff

/* Takes note of a fragment header; one that says it is the only fragment changes nothing
 * (RFC 6946). */
static __always_inline void note_fragment(const struct extension *header, struct packet *packet)
{
	if (header->fragment[0] || header->fragment[1] & 0xf8)
		packet->part = LATER_FRAGMENT;
	else if (header->fragment[1] & 1)
		packet->part = FIRST_FRAGMENT;
	__builtin_memcpy(&packet->fragment_id, header->fragment_id, sizeof(packet->fragment_id));
}

/* What skip_extensions returns beside an offset. */
enum { BROKEN = -1, ROUTED = -2 };

/* Steps over the extension headers from `offset` of the frame on, to the protocol behind them,
 * which replaces the one in the key. Returns where that begins, or why it does not.
 *
 * A global function, so that the verifier looks at it once and not along every path that leads
 * here. It cannot know the packet's bounds, and copies; only packets with such headers pay. */
__noinline int skip_extensions(struct xdp_md *ctx, __u32 offset, struct packet *packet)
{
	struct extension header;
	__u8 next;

	if (!packet)
		return BROKEN;
	next = packet->key.protocol;
	for (int count = 0; count < IPV6_EXTENSIONS_MAX && is_extension(next); count++) {
		if (bpf_xdp_load_bytes(ctx, offset, &header, sizeof(header)) ||
		    (next == IPPROTO_HOPOPTS && count > 0))
			return BROKEN;
		/* Its destination is a stop on the way: the kernel's business. */
		if (next == IPPROTO_ROUTING && header.routing[1])
			return ROUTED;
		if (next == IPPROTO_FRAGMENT) {
			note_fragment(&header, packet);
			offset += sizeof(header);
		} else if (next == IPPROTO_AH) {
			offset += (header.length + 2) * 4;
		} else {
			offset += (header.length + 1) * 8;
		}
		next = header.next;
		if (packet->part == LATER_FRAGMENT)
			break;
	}
	packet->key.protocol = next;
	if (packet->part != LATER_FRAGMENT && is_extension(next))
		return BROKEN;
	return offset;
}

/* Both families' (RFC 792, RFC 4443); <linux/icmp.h> wants a C library. */
struct icmp {
	__u8 type;
	__u8 code;
	__u8 checksum[2];
	__u8 rest[4];
};

enum { ICMP_UNREACHABLE = 3, ICMP_TIME_EXCEEDED = 11, ICMP_BAD_PARAMETER = 12 };
enum { ICMPV6_UNREACHABLE = 1, ICMPV6_BAD_PARAMETER = 4 }; /* 2 and 3 are errors as well */

/* Where an ICMPv6 message begins in the frame, and how long it is. */
struct extent {
	__u32 offset;
	__u32 room;
};

/* Bytes of the quoted L4 header that every error has (RFC 792). */
#define QUOTED_L4_BYTES 8

/* The ports of a quoted packet, turned round: what our maps know is the tuple of its answer. */
static __always_inline int parse_quoted_ports(void *l4, void *end, struct packet *packet)
{
	if (packet->key.protocol != IPPROTO_TCP && packet->key.protocol != IPPROTO_UDP)
		return PASS_NO_SERVICE;
	if (l4 + QUOTED_L4_BYTES > end)
		return PASS_MALFORMED;
	__builtin_memcpy(packet->key.dst_port, l4, 2);
	__builtin_memcpy(packet->key.src_port, l4 + 2, 2);
	return PARSED;
}

/* An error is as the answer to the packet that it quotes. One that was not sent to the quoted
 * packet's source, or quotes what cannot be told, is not ours. */
static __always_inline int parse_error_v4(void *l4, void *end, __u32 room, struct packet *packet)
{
	struct icmp *icmp = l4;
	struct iphdr *quote = (void *)(icmp + 1);
	__u32 header, outer_destination;

	if ((void *)(icmp + 1) > end || room < sizeof(*icmp))
		return PASS_MALFORMED;
	if (icmp->type != ICMP_UNREACHABLE && icmp->type != ICMP_TIME_EXCEEDED &&
	    icmp->type != ICMP_BAD_PARAMETER)
		return PASS_NO_SERVICE;
	if ((void *)(quote + 1) > end)
		return PASS_MALFORMED;
	header = quote->ihl * 4;
	__builtin_memcpy(&outer_destination, packet->key.dst + 12, 4);
	if (quote->version != 4 || header < sizeof(*quote) || quote->saddr != outer_destination ||
	    quote->frag_off & bpf_htons(0x1fff))
		return PASS_NO_SERVICE;
	if (room < sizeof(*icmp) + header + QUOTED_L4_BYTES)
		return PASS_MALFORMED;
	map_v4(packet->key.src, quote->daddr);
	packet->key.protocol = quote->protocol;
	return parse_quoted_ports((void *)quote + header, end, packet);
}

static __always_inline bool is_same_address(const struct in6_addr *a, const __u8 *b)
{
	__u64 words[2], others[2];

	__builtin_memcpy(words, a, sizeof(words));
	__builtin_memcpy(others, b, sizeof(others));
	return !((words[0] ^ others[0]) | (words[1] ^ others[1]));
}

/* Finds what follows the header at `ip`, `ip_offset` bytes into the frame, and its extension
 * headers; `offset` counts from `ip`. */
static __always_inline int find_upper(struct xdp_md *ctx, const struct ipv6hdr *ip, __u32 ip_offset,
				      struct packet *packet, __u32 *offset)
{
	int found;

	*offset = sizeof(*ip);
	packet->key.protocol = ip->nexthdr;
	if (!is_extension(ip->nexthdr))
		return PARSED;
	found = skip_extensions(ctx, ip_offset + sizeof(*ip), packet);
	if (found < 0)
		return found == ROUTED ? PASS_NO_SERVICE : PASS_MALFORMED;
	/* The mask changes nothing, but the verifier knows nothing of what a global function returns. */
	*offset = ((__u32)found - ip_offset) & HEADERS_BYTES_MAX;
	barrier_var(*offset);
	return PARSED;
}

static __always_inline int parse_error_v6(struct xdp_md *ctx, void *l4, struct extent at,
					  struct packet *packet)
{
	void *end = (void *)(long)ctx->data_end;
	struct icmp *icmp = l4;
	struct ipv6hdr *quote = (void *)(icmp + 1);
	__u32 offset;

	if ((void *)(icmp + 1) > end || at.room < sizeof(*icmp))
		return PASS_MALFORMED;
	if (icmp->type < ICMPV6_UNREACHABLE || icmp->type > ICMPV6_BAD_PARAMETER)
		return PASS_NO_SERVICE;
	if ((void *)(quote + 1) > end)
		return PASS_MALFORMED;
	if (quote->version != 6 || !is_same_address(&quote->saddr, packet->key.dst) ||
	    is_mapped(&quote->daddr))
		return PASS_NO_SERVICE;
	__builtin_memcpy(packet->key.src, &quote->daddr, sizeof(packet->key.src));
	if (find_upper(ctx, quote, at.offset + sizeof(*icmp), packet, &offset) != PARSED ||
	    packet->part == LATER_FRAGMENT)
		return PASS_NO_SERVICE;
	packet->part = WHOLE; /* the error is, whatever it quotes */
	if (at.room < sizeof(*icmp) + offset + QUOTED_L4_BYTES)
		return PASS_MALFORMED;
	return parse_quoted_ports((void *)quote + offset, end, packet);
}

static __always_inline int parse_v4(void *l3, void *end, struct packet *packet)
{
	struct iphdr *ip = l3;
	__u32 header, total;

	if ((void *)(ip + 1) > end)
		return PASS_MALFORMED;
	header = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header < sizeof(*ip) || total < header || total > end - l3)
		return PASS_MALFORMED;
	map_v4(packet->key.src, ip->saddr);
	map_v4(packet->key.dst, ip->daddr);
	packet->key.protocol = ip->protocol;
	/* More fragments follow, or this is not the first (RFC 791 section 3.1). */
	if (ip->frag_off & bpf_htons(0x3fff)) {
		packet->fragment_id = ip->id;
		packet->part = FIRST_FRAGMENT;
		if (ip->frag_off & bpf_htons(0x1fff)) {
			packet->part = LATER_FRAGMENT;
			return parse_part(packet);
		}
	} else if (ip->protocol == IPPROTO_ICMP)
		return parse_error_v4(l3 + header, end, total - header, packet);
	return parse_l4(l3 + header, end, total - header, packet);
}

static __always_inline int parse_v6(struct xdp_md *ctx, void *l3, struct packet *packet)
{
	void *end = (void *)(long)ctx->data_end;
	__u32 total, offset, l3_offset = l3 - (void *)(long)ctx->data;
	struct ipv6hdr *ip = l3;
	int reason;

	if ((void *)(ip + 1) > end)
		return PASS_MALFORMED;
	/* A jumbogram says 0 (RFC 2675), which leaves its headers no room. */
	total = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (ip->version != 6 || total > end - l3 || is_mapped(&ip->saddr) || is_mapped(&ip->daddr))
		return PASS_MALFORMED;
	__builtin_memcpy(packet->key.src, &ip->saddr, sizeof(packet->key.src));
	__builtin_memcpy(packet->key.dst, &ip->daddr, sizeof(packet->key.dst));
	reason = find_upper(ctx, ip, l3_offset, packet, &offset);
	if (reason != PARSED)
		return reason;
	if (offset > total)
		return PASS_MALFORMED;
	if (packet->part == LATER_FRAGMENT)
		return parse_part(packet);
	if (packet->key.protocol == IPPROTO_ICMPV6 && packet->part == WHOLE)
		return parse_error_v6(ctx, l3 + offset,
				      (struct extent){ l3_offset + offset, total - offset }, packet);
	return parse_l4(l3 + offset, end, total - offset, packet);
}

/* An 802.1Q tag, behind the Ethernet addresses and the tag's own type. */
struct vlan_tag {
	__be16 control;
	__be16 protocol;
};

#define VLAN_ID 0x0fff /* of the control field; all ones are reserved */

/* The VLANs of which the host has an interface: their packets are that interface's. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VLANS_MAX);
	__type(key, struct vlan_key);
	__type(value, __u8);
} vlans SEC(".maps");

/* Whether the packets of a VLAN may be ours; those of none (0, a priority alone) may. */
static __always_inline bool is_vlan_free(__u32 ifindex, const struct vlan_tag *tag)
{
	struct vlan_key key = { .ifindex = ifindex, .id = bpf_ntohs(tag->control) & VLAN_ID };

	return key.id != VLAN_ID && !bpf_map_lookup_elem(&vlans, &key);
}

static __always_inline int parse(struct xdp_md *ctx, const struct interface *interface,
				 struct packet *packet)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end, *l3 = eth + 1;
	struct vlan_tag *tag = l3;
	__be16 protocol;
	bool is_group;

	if ((void *)(eth + 1) > end)
		return PASS_MALFORMED;
	is_group = eth->h_dest[0] & 1;
	if (!is_group && !is_own_mac(ctx, eth->h_dest, interface))
		return PASS_OTHERHOST;
	protocol = eth->h_proto;
	if (protocol == bpf_htons(ETH_P_8021Q)) {
		if ((void *)(tag + 1) > end)
			return PASS_MALFORMED;
		if (!is_vlan_free(ctx->ingress_ifindex, tag))
			return PASS_VLAN_TAGGED;
		l3 = tag + 1;
		protocol = tag->protocol;
	}
	switch (protocol) {
	case bpf_htons(ETH_P_IP):
		return is_group ? PASS_NO_SERVICE : parse_v4(l3, end, packet);
	case bpf_htons(ETH_P_IPV6):
		return is_group ? PASS_NO_SERVICE : parse_v6(ctx, l3, packet);
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD):
		return PASS_VLAN_TAGGED;
	default:
		return l3 == eth + 1 ? PASS_NOT_IP : PASS_VLAN_TAGGED;
	}
}

#endif
