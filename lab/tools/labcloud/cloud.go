package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// settings is how a cluster's balancers behave.
type settings struct {
	Publish  string  `json:"publish"`  // hostname, ip or nothing
	Resolve  bool    `json:"resolve"`  // the name is in DNS
	Forward  bool    `json:"forward"`  // packets are passed on, else dropped
	Delay    float64 `json:"delay"`    // seconds from Service to published status
	Pace     float64 `json:"pace"`     // for AWS: how long things take there, 1 as in reality, 0 no time
	Health   string  `json:"health"`   // for AWS: what it says of targets, whatever they answer
	Throttle float64 `json:"throttle"` // for AWS: the share of calls that it turns away as too many
}

// provisioning is how long AWS needs until a new balancer's name can be looked up.
const provisioning = 120 * time.Second

var standard = settings{Publish: "hostname", Resolve: true, Forward: true}

type zone struct {
	name  string
	cidr  netip.Prefix
	inUse map[netip.Addr]bool
}

type balancer struct {
	Cluster   string            `json:"cluster"`
	Namespace string            `json:"namespace"`
	Service   string            `json:"service"`
	UID       string            `json:"uid"`
	Name      string            `json:"name"`
	Addresses map[string]string `json:"addresses"` // by zone
	Ports     map[uint16]uint16 `json:"ports"`     // listener to node port
	Sources   []string          `json:"sources"`   // who may connect; everybody if empty
	Created   time.Time         `json:"created"`
	Published bool              `json:"published"` // its name may be looked up
	written   bool              // its Service's status says what it should
}

type member struct {
	joining
	api      *api
	settings settings
	services []service // of type LoadBalancer
}

// joining is what the lab says of a cluster.
type joining struct {
	Name       string `json:"name"`
	Kubeconfig string `json:"kubeconfig"`
	Node       string `json:"node"`  // its address on the WAN
	Netns      string `json:"netns"` // its VPC
}

// cloud holds every cluster and balancer; one lock guards it all.
type cloud struct {
	mu        sync.Mutex
	zones     []*zone
	members   map[string]*member
	balancers map[string]*balancer // by cluster/uid
}

func newCloud(specs []string) (*cloud, error) {
	c := &cloud{members: map[string]*member{}, balancers: map[string]*balancer{}}
	for _, spec := range specs {
		name, cidr, _ := strings.Cut(spec, "=")
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return nil, err
		}
		c.zones = append(c.zones, &zone{name, prefix, map[netip.Addr]bool{}})
	}
	return c, c.program()
}

// join takes a cluster in and watches its Services from now on.
func (c *cloud) join(in joining) error {
	client, err := newAPI(in.Kubeconfig)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.members[in.Name]; known {
		return nil
	}
	m := &member{joining: in, api: client, settings: standard}
	c.members[in.Name] = m
	go client.watchServices(func(all []service) { c.observe(m, all) })
	return nil
}

// set changes how one cluster's balancers behave, or all clusters'.
func (c *cloud) set(cluster string, change func(*settings)) error {
	c.mu.Lock()
	found := false
	for name, m := range c.members {
		if cluster == "*" || cluster == name {
			change(&m.settings)
			found = true
		}
	}
	for _, b := range c.balancers {
		if cluster == "*" || cluster == b.Cluster {
			b.written = false
		}
	}
	err := c.program()
	c.mu.Unlock()
	if !found {
		return fmt.Errorf("no cluster %q", cluster)
	}
	c.publish()
	return err
}

// observe makes the balancers of a cluster what its Services ask for.
func (c *cloud) observe(m *member, services []service) {
	c.mu.Lock()
	seen := map[string]bool{}
	changed := false
	m.services = nil
	for _, s := range services {
		key := m.Name + "/" + s.Metadata.UID
		if s.Spec.Type == "LoadBalancer" {
			m.services = append(m.services, s)
		}
		if !s.asks() {
			continue
		}
		seen[key] = true
		b, known := c.balancers[key]
		if !known {
			b = c.create(m.Name, s)
			c.balancers[key] = b
			log.Printf("%s %s/%s: %s %v", m.Name, b.Namespace, b.Service, b.Name, b.Addresses)
		}
		if ports := s.nodePorts(); !maps.Equal(ports, b.Ports) {
			b.Ports, changed = ports, true
		}
		if !slices.Equal(s.Spec.Sources, b.Sources) {
			b.Sources, changed = s.Spec.Sources, true
		}
		if !s.publishes(b, m.settings.Publish) {
			b.written = false
		}
	}
	for key, b := range c.balancers {
		if b.Cluster == m.Name && !seen[key] {
			c.release(b)
			delete(c.balancers, key)
			changed = true
			log.Printf("%s %s/%s: released", m.Name, b.Namespace, b.Service)
		}
	}
	if changed {
		if err := c.program(); err != nil {
			log.Print(err)
		}
	}
	c.mu.Unlock()
	c.publish()
}

func (c *cloud) create(cluster string, s service) *balancer {
	sum := sha256.Sum256([]byte(cluster + s.Metadata.UID))
	digits := hex.EncodeToString(sum[:])
	b := &balancer{Cluster: cluster, Namespace: s.Metadata.Namespace, Service: s.Metadata.Name, UID: s.Metadata.UID,
		Name: fmt.Sprintf("k8s-%s-%s-%s-%s.elb.us-west-2.amazonaws.com",
			shortened(s.Metadata.Namespace), shortened(s.Metadata.Name), digits[:10], digits[10:26]),
		Addresses: map[string]string{}, Created: time.Now()}
	for _, z := range c.zones {
		address := z.cidr.Addr().Next()
		for z.inUse[address] {
			address = address.Next()
		}
		z.inUse[address] = true
		b.Addresses[z.name] = address.String()
	}
	return b
}

func (c *cloud) release(b *balancer) {
	for _, z := range c.zones {
		delete(z.inUse, netip.MustParseAddr(b.Addresses[z.name]))
	}
}

// shortened is a name as the load balancer controller writes it into its own.
func shortened(name string) string {
	kept := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(name))
	return kept[:min(8, len(kept))]
}

// publish writes the status of every balancer that is due and not yet written.
func (c *cloud) publish() {
	type write struct {
		m *member
		b balancer
		s settings
	}
	var due []write
	c.mu.Lock()
	for _, b := range c.balancers {
		m := c.members[b.Cluster]
		if b.written {
			continue
		}
		if wait := time.Duration(m.settings.Delay*float64(time.Second)) - time.Since(b.Created); wait > 0 {
			time.AfterFunc(wait, c.publish)
			continue
		}
		b.Published, b.written = true, true
		due = append(due, write{m, *b, m.settings})
	}
	c.mu.Unlock()
	for _, w := range due {
		if err := w.m.api.writeStatus(&w.b, w.s.Publish); err != nil {
			log.Printf("%s %s/%s: %v", w.b.Cluster, w.b.Namespace, w.b.Service, err)
		}
	}
}

// lookUp answers for a name: its addresses, or nil where there is no such name.
func (c *cloud) lookUp(name string) []netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.balancers {
		m := c.members[b.Cluster]
		there := time.Since(b.Created) >= time.Duration(m.settings.Pace*float64(provisioning))
		if b.Name == name && m.settings.Resolve && b.Published && there {
			return b.addresses()
		}
	}
	return nil
}

// all is every balancer; never nil, so that it is a list in JSON.
func (c *cloud) all() []*balancer {
	return slices.AppendSeq([]*balancer{}, maps.Values(c.balancers))
}

func (b *balancer) addresses() []netip.Addr {
	var all []netip.Addr
	for _, name := range slices.Sorted(maps.Keys(b.Addresses)) {
		all = append(all, netip.MustParseAddr(b.Addresses[name]))
	}
	return all
}
