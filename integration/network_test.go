//go:build integration

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/covey-ml/covey/pki"
)

// network is hosts of its own on this machine: network namespaces, each with a link to a switch, which is a namespace, too. The
// switch has two bridges, and a host reaches those that are on the same one: to cut some off is to move their links to the other. A
// host has a name and a boot id that no other one has, as machines have, and a certificate.
type network struct {
	t     *testing.T
	hub   string   // the switch's namespace
	hosts []string // theirs
	dir   string   // boot ids and certificates
}

var networks atomic.Int64 // that this process has made

const (
	nearBridge = "near"
	farBridge  = "far"
)

func newNetwork(t *testing.T, hosts int) *network {
	t.Helper()
	n := &network{t: t, hub: fmt.Sprintf("covey%dn%d", os.Getpid(), networks.Add(1)), dir: t.TempDir()}
	t.Cleanup(n.remove)
	must(t, "ip", "netns", "add", n.hub)
	for _, b := range []string{nearBridge, farBridge} {
		must(t, "ip", "-n", n.hub, "link", "add", b, "type", "bridge")
		must(t, "ip", "-n", n.hub, "link", "set", b, "up")
	}
	if err := pki.Init(n.certs(), time.Now()); err != nil {
		t.Fatal(err)
	}
	for i := range hosts {
		ns := n.hub + n.name(i)
		n.hosts = append(n.hosts, ns)
		must(t, "ip", "netns", "add", ns)
		must(t, "ip", "-n", n.hub, "link", "add", n.port(i), "type", "veth", "peer", "name", "eth0", "netns", ns)
		must(t, "ip", "-n", n.hub, "link", "set", n.port(i), "master", nearBridge, "up")
		must(t, "ip", "-n", ns, "addr", "add", n.addr(i)+"/24", "dev", "eth0")
		must(t, "ip", "-n", ns, "link", "set", "eth0", "up")
		must(t, "ip", "-n", ns, "link", "set", "lo", "up")
		if err := os.WriteFile(filepath.Join(n.dir, n.name(i)), []byte(ns+"\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := pki.Issue(n.certs(), n.name(i), time.Now(), n.addr(i)); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func (n *network) name(host int) string { return fmt.Sprintf("h%d", host) }
func (n *network) port(host int) string { return fmt.Sprintf("p%d", host) }
func (n *network) addr(host int) string { return fmt.Sprintf("10.215.7.%d", host+1) }
func (n *network) certs() string        { return filepath.Join(n.dir, "certs") }

// on is a command line that runs another one on a host. The process is that command's: nothing stays around it.
func (n *network) on(host int, args ...string) []string {
	return slices.Concat([]string{"ip", "netns", "exec", n.hosts[host], "unshare", "--uts", "sh", "-c",
		`echo "$0" >/proc/sys/kernel/hostname && mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"`,
		n.name(host), filepath.Join(n.dir, n.name(host))}, args)
}

// credentials are the flags by which a host's covey shows its certificate.
func (n *network) credentials(host int) []string {
	return []string{"--tls", n.certs(), "--node", n.name(host)}
}

// cut leaves some hosts to themselves.
func (n *network) cut(hosts ...int) { n.move(farBridge, hosts) }

// mend is the end of all cuts.
func (n *network) mend() {
	for i := range n.hosts {
		n.move(nearBridge, []int{i})
	}
}

func (n *network) move(bridge string, hosts []int) {
	n.t.Helper()
	for _, h := range hosts {
		must(n.t, "ip", "-n", n.hub, "link", "set", n.port(h), "master", bridge)
	}
}

// remove takes the hosts away, and with them their links.
func (n *network) remove() {
	for _, ns := range append(n.hosts, n.hub) {
		exec.Command("ip", "netns", "del", ns).Run()
	}
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil || strings.Contains(string(out), n.hub) {
		n.t.Errorf("namespaces are left: %s (%v)", out, err)
	}
}
