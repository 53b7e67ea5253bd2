// Package nft is the vocabulary in which core/network and core/proxy write
// nftables rules: statements as lists of netlink expressions, for IPv4 and
// IPv6 alike, and a connection that is large enough for big transactions.
//
// It owns no table. It promises that a Family's keys have the layout nft(8)
// uses for the same concatenation, so that "nft list table" reads well. It
// refuses to fork commands and to parse rules back.
package nft
