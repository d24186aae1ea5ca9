//go:build tools

// Package tools pins the CoreDNS that the lab builds.
package tools

import _ "github.com/coredns/coredns"
