package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Attachment names one interface of one sandbox.
type Attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

// Lease is an address given to an attachment.
type Lease struct {
	Attachment
	Address netip.Addr `json:"address"`
	// Namespace is the path of the sandbox' network namespace.
	Namespace string `json:"netns"`
	// HostInterface is the node's end of the veth pair.
	HostInterface string     `json:"hostInterface"`
	PodNamespace  string     `json:"podNamespace,omitempty"`
	PodName       string     `json:"podName,omitempty"`
	HostPorts     []HostPort `json:"hostPorts,omitempty"`
	Created       time.Time  `json:"created"`
}

// HostPort is one entry of the CNI capability portMappings.
type HostPort struct {
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

// any tells whether the port is on all addresses of the node.
func (p HostPort) any() bool { return p.HostIP == "" || p.HostIP == "0.0.0.0" }

// number is the protocol's number, 0 for one that is not mapped.
func (p HostPort) number() byte {
	n, err := protocol(p.Protocol)
	if err != nil {
		return 0
	}
	return n
}

// errExhausted says that a pod CIDR has no free address.
var errExhausted = errors.New("no free address")

// pool hands out the addresses of one prefix. Each lease is a file named by
// its address, so that an allocation writes one small file. The files are
// written whole or not at all as far as a crash of the process goes; after a
// crash of the machine no sandbox is left and all leases are void, which the
// boot id recorded beside them tells.
type pool struct {
	dir    string
	prefix netip.Prefix

	mu    sync.Mutex
	byKey map[Attachment]*Lease // guarded by mu; leases are replaced, not changed
	used  map[netip.Addr]bool   // guarded by mu; includes leases of older prefixes
	last  netip.Addr            // guarded by mu; the search starts after it
}

// openPool loads the leases of dir. bootID identifies the machine's boot.
func openPool(dir string, prefix netip.Prefix, bootID string) (*pool, error) {
	p := &pool{dir: filepath.Join(dir, "leases"), prefix: prefix.Masked(), byKey: map[Attachment]*Lease{}, used: map[netip.Addr]bool{}}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot create lease folder: %w", err)
	}
	bootFile := filepath.Join(dir, "boot")
	old, err := os.ReadFile(bootFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read boot id of leases: %w", err)
	}
	files, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read lease folder: %w", err)
	}
	p.last = p.gateway()
	for _, f := range files {
		name := filepath.Join(p.dir, f.Name())
		body, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("cannot read lease: %w", err)
		}
		var l Lease
		// Half a file is left by a crash before the address was used.
		if string(old) != bootID || json.Unmarshal(body, &l) != nil || l.Address.String() != f.Name() || l.ContainerID == "" {
			if err := os.Remove(name); err != nil {
				return nil, fmt.Errorf("cannot remove void lease: %w", err)
			}
			continue
		}
		p.byKey[l.Attachment], p.used[l.Address] = &l, true
		if p.prefix.Contains(l.Address) && p.last.Less(l.Address) {
			p.last = l.Address
		}
	}
	if err := os.WriteFile(bootFile, []byte(bootID), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write boot id of leases: %w", err)
	}
	return p, nil
}

// gateway is the node's own address in the prefix.
func (p *pool) gateway() netip.Addr { return p.prefix.Addr().Next() }

// size is the number of addresses for pods: without network address, gateway
// and broadcast.
func (p *pool) size() int { return 1<<(32-p.prefix.Bits()) - 3 }

// portTakenError says that a host port belongs to another lease.
type portTakenError struct {
	port HostPort
	by   *Lease
}

func (e portTakenError) Error() string {
	return fmt.Sprintf("cannot map host port %d/%s: it is taken by pod %s/%s", e.port.HostPort, e.port.Protocol, e.by.PodNamespace, e.by.PodName)
}

// portsFree tells whether l's host ports are nobody else's. A port on all
// addresses conflicts with the same port on one, as for the scheduler. The
// caller holds mu.
func (p *pool) portsFree(l Lease) error {
	for _, port := range l.HostPorts {
		for _, other := range p.byKey {
			if other.Attachment == l.Attachment {
				continue
			}
			for _, taken := range other.HostPorts {
				if taken.HostPort == port.HostPort && taken.number() == port.number() && (taken.any() || port.any() || taken.HostIP == port.HostIP) {
					return portTakenError{port, other}
				}
			}
		}
	}
	return nil
}

// acquire records a lease with a free address for l's attachment. The most
// recently freed addresses come last. An attachment that has a lease keeps
// its address.
func (p *pool) acquire(l Lease) (*Lease, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.portsFree(l); err != nil {
		return nil, err
	}
	if old := p.byKey[l.Attachment]; old != nil && p.prefix.Contains(old.Address) {
		l.Address = old.Address
	} else {
		a, err := p.free()
		if err != nil {
			return nil, err
		}
		if old != nil {
			if err := p.drop(old); err != nil {
				return nil, err
			}
		}
		l.Address = a
	}
	if err := p.write(&l); err != nil {
		return nil, err
	}
	p.byKey[l.Attachment], p.used[l.Address], p.last = &l, true, l.Address
	return &l, nil
}

// free finds the next free address. The caller holds mu.
func (p *pool) free() (netip.Addr, error) {
	a := p.last
	for range p.size() + 3 {
		a = a.Next()
		// The next one being outside makes this one the broadcast address.
		if !p.prefix.Contains(a) || !p.prefix.Contains(a.Next()) {
			a = p.gateway()
			continue
		}
		if a != p.gateway() && !p.used[a] {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%w in pod CIDR %s: all %d are in use", errExhausted, p.prefix, p.size())
}

func (p *pool) write(l *Lease) error {
	body, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("cannot encode lease of %s: %w", l.Address, err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, l.Address.String()), body, 0o600); err != nil {
		return fmt.Errorf("cannot record lease of %s: %w", l.Address, err)
	}
	return nil
}

// release forgets the lease of an attachment, if there is one.
func (p *pool) release(a Attachment) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.byKey[a]; l != nil {
		return p.drop(l)
	}
	return nil
}

// drop forgets a lease. The caller holds mu.
func (p *pool) drop(l *Lease) error {
	if err := os.Remove(filepath.Join(p.dir, l.Address.String())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot release lease of %s: %w", l.Address, err)
	}
	delete(p.byKey, l.Attachment)
	delete(p.used, l.Address)
	return nil
}

// lease returns the lease of an attachment, or nil.
func (p *pool) lease(a Attachment) *Lease {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byKey[a]
}

// leases returns all leases in no order.
func (p *pool) leases() []*Lease {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*Lease, 0, len(p.byKey))
	for _, l := range p.byKey {
		all = append(all, l)
	}
	return all
}
