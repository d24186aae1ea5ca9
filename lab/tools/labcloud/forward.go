package main

import (
	"fmt"
	"os/exec"
	"strings"
)

// program writes the way from balancer addresses to node ports into the kernel
// of this network namespace, in one step. A balancer passes packets on and ends
// no connection, so a target that refuses is seen to refuse.
func (c *cloud) program() error {
	var ways, drops strings.Builder
	for _, b := range c.balancers {
		m := c.members[b.Cluster]
		for _, address := range b.Addresses {
			if !m.settings.Forward {
				fmt.Fprintf(&drops, "    ip daddr %s drop\n", address)
			}
			// As a security group does: who is not let in gets no answer.
			if len(b.Sources) > 0 {
				fmt.Fprintf(&drops, "    ip daddr %s ip saddr != { %s } drop\n", address, strings.Join(b.Sources, ", "))
			}
			for listener, node := range b.Ports {
				fmt.Fprintf(&ways, "    ip daddr %s tcp dport %d dnat to %s:%d\n", address, listener, m.Node, node)
			}
		}
	}
	rules := fmt.Sprintf(`table ip balancers
delete table ip balancers
table ip balancers {
  chain drops {
    type filter hook prerouting priority mangle;
%s  }
  chain ways {
    type nat hook prerouting priority dstnat;
%s  }
  chain sources {
    type nat hook postrouting priority srcnat;
    ct status dnat masquerade
  }
  chain passed {
    type filter hook forward priority filter; policy drop;
    ct status dnat accept
  }
}
`, drops.String(), ways.String())
	command := exec.Command("nft", "-f", "-")
	command.Stdin = strings.NewReader(rules)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %v: %s", err, out)
	}
	return nil
}
