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
#include "steer.h"

struct packet {
	struct flow_key key;
	bool is_syn; /* TCP, SYN without ACK */
};

/* What the parsers return beside a pass_reason. */
#define PARSED -1

/* The first bytes of every IPv6 extension header but the fragment's (RFC 8200 section 4). */
struct extension {
	__u8 next;
	__u8 length;
	__u8 type;
	__u8 segments_left; /* of a routing header alone */
};

static __always_inline bool is_same_mac(const __u8 *a, const volatile __u8 *b)
{
	/* Byte by byte: neither address need be aligned. */
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) |
		 (a[5] ^ b[5]));
}

static __always_inline void map_v4(__u8 *address, __u32 v4)
{
	address[10] = 0xff;
	address[11] = 0xff;
	__builtin_memcpy(address + 12, &v4, 4);
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
		return PASS_NO_SERVICE;
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
	       protocol == IPPROTO_DSTOPTS || protocol == IPPROTO_AH;
}

/* More than twice IPV6_EXTENSIONS_MAX headers of the longest kind: never reached, but the verifier
 * follows offsets below 64 KiB only. */
#define HEADERS_BYTES_MAX 0x7fff

/* Steps over the extension headers from `offset` on, to the protocol behind them. Returns where
 * that begins, or the reason why it does not, less PASS_REASONS. */
static __noinline int skip_extensions(void *l3, void *end, __u32 offset, __u8 *protocol)
{
	__u8 next = *protocol;

	if (offset > HEADERS_BYTES_MAX)
		return PASS_MALFORMED - PASS_REASONS;
#pragma clang loop unroll(disable)
	for (int count = 0; count < IPV6_EXTENSIONS_MAX && is_extension(next); count++) {
		struct extension *header = l3 + offset;

		if ((void *)(header + 1) > end || (next == IPPROTO_HOPOPTS && count > 0))
			return PASS_MALFORMED - PASS_REASONS;
		/* Its destination is a stop on the way: the kernel's business. */
		if (next == IPPROTO_ROUTING && header->segments_left)
			return PASS_NO_SERVICE - PASS_REASONS;
		offset += next == IPPROTO_AH ? (header->length + 2) * 4 : (header->length + 1) * 8;
		next = header->next;
	}
	*protocol = next;
	if (next == IPPROTO_FRAGMENT)
		return PASS_FRAGMENT - PASS_REASONS;
	return is_extension(next) ? PASS_MALFORMED - PASS_REASONS : offset;
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

static __always_inline int parse_error_v6(void *l4, void *end, __u32 room, struct packet *packet)
{
	struct icmp *icmp = l4;
	struct ipv6hdr *quote = (void *)(icmp + 1);
	int offset;

	if ((void *)(icmp + 1) > end || room < sizeof(*icmp))
		return PASS_MALFORMED;
	if (icmp->type < ICMPV6_UNREACHABLE || icmp->type > ICMPV6_BAD_PARAMETER)
		return PASS_NO_SERVICE;
	if ((void *)(quote + 1) > end)
		return PASS_MALFORMED;
	if (quote->version != 6 || !is_same_address(&quote->saddr, packet->key.dst) ||
	    is_mapped(&quote->daddr))
		return PASS_NO_SERVICE;
	__builtin_memcpy(packet->key.src, &quote->daddr, sizeof(packet->key.src));
	packet->key.protocol = quote->nexthdr;
	offset = skip_extensions(quote, end, sizeof(*quote), &packet->key.protocol);
	if (offset < 0)
		return PASS_NO_SERVICE;
	if (room < sizeof(*icmp) + offset + QUOTED_L4_BYTES || offset > HEADERS_BYTES_MAX)
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
	/* More fragments follow, or this is not the first (RFC 791 section 3.1). */
	if (ip->frag_off & bpf_htons(0x3fff))
		return PASS_FRAGMENT;
	map_v4(packet->key.src, ip->saddr);
	map_v4(packet->key.dst, ip->daddr);
	packet->key.protocol = ip->protocol;
	if (ip->protocol == IPPROTO_ICMP)
		return parse_error_v4(l3 + header, end, total - header, packet);
	return parse_l4(l3 + header, end, total - header, packet);
}

static __always_inline int parse_v6(void *l3, void *end, struct packet *packet)
{
	struct ipv6hdr *ip = l3;
	__u32 total;
	int offset;

	if ((void *)(ip + 1) > end)
		return PASS_MALFORMED;
	/* A jumbogram says 0 (RFC 2675), which leaves its headers no room. */
	total = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (ip->version != 6 || total > end - l3 || is_mapped(&ip->saddr) || is_mapped(&ip->daddr))
		return PASS_MALFORMED;
	__builtin_memcpy(packet->key.src, &ip->saddr, sizeof(packet->key.src));
	__builtin_memcpy(packet->key.dst, &ip->daddr, sizeof(packet->key.dst));
	packet->key.protocol = ip->nexthdr;
	offset = skip_extensions(l3, end, sizeof(*ip), &packet->key.protocol);
	if (offset < 0)
		return offset + PASS_REASONS;
	if (offset > (int)total || offset > HEADERS_BYTES_MAX)
		return PASS_MALFORMED;
	if (packet->key.protocol == IPPROTO_ICMPV6)
		return parse_error_v6(l3 + offset, end, total - offset, packet);
	return parse_l4(l3 + offset, end, total - offset, packet);
}

static __always_inline int parse(struct ethhdr *eth, void *end, const struct interface *interface,
				 struct packet *packet)
{
	bool is_group = eth->h_dest[0] & 1;

	if (!is_group && !is_same_mac(eth->h_dest, interface->mac))
		return PASS_OTHERHOST;
	switch (eth->h_proto) {
	case bpf_htons(ETH_P_IP):
		return is_group ? PASS_NO_SERVICE : parse_v4(eth + 1, end, packet);
	case bpf_htons(ETH_P_IPV6):
		return is_group ? PASS_NO_SERVICE : parse_v6(eth + 1, end, packet);
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD):
		return PASS_VLAN_TAGGED;
	default:
		return PASS_NOT_IP;
	}
}

#endif
