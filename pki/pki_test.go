package pki_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/pki"
)

// cluster makes an authority with the named nodes, all good for 127.0.0.1.
func cluster(t *testing.T, now time.Time, nodes ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	if err := pki.Init(dir, now); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if err := pki.Issue(dir, n, now, "127.0.0.1"); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func load(t *testing.T, dir, name string, now time.Time) *tls.Config {
	t.Helper()
	c, err := pki.Load(dir, name, now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// meet runs one handshake over loopback, then passes a word each way, and returns both sides' errors.
func meet(t *testing.T, server, client *tls.Config, serverName string) (serverErr, clientErr error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	talk := func(c *tls.Conn) error {
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if err := c.Handshake(); err != nil {
			return err
		}
		if v := c.ConnectionState().Version; v != tls.VersionTLS13 {
			t.Errorf("TLS version %#x, want 1.3", v)
		}
		if _, err := c.Write([]byte("covey")); err != nil {
			return err
		}
		var word [5]byte
		if _, err := io.ReadFull(c, word[:]); err != nil {
			return err
		}
		if string(word[:]) != "covey" {
			return errors.New("read " + string(word[:]))
		}
		return nil
	}
	done := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			done <- err
			return
		}
		done <- talk(tls.Server(c, server))
	}()
	client = client.Clone()
	client.ServerName = serverName
	c, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	clientErr = talk(tls.Client(c, client))
	return <-done, clientErr
}

func TestNodesOfOneClusterMeet(t *testing.T) {
	now := time.Now()
	dir := cluster(t, now, "node1", "node2")
	a, b := load(t, dir, "node1", now), load(t, dir, "node2", now)
	if s, c := meet(t, a, b, "127.0.0.1"); s != nil || c != nil {
		t.Fatalf("server: %v, client: %v", s, c)
	}
	if s, c := meet(t, a, b, "node1"); s != nil || c != nil {
		t.Fatalf("by name: server: %v, client: %v", s, c)
	}
}

func TestOtherHostsNameRefused(t *testing.T) {
	now := time.Now()
	dir := cluster(t, now, "node1", "node2")
	_, err := meet(t, load(t, dir, "node1", now), load(t, dir, "node2", now), "node2")
	var wrong x509.HostnameError
	if !errors.As(err, &wrong) {
		t.Fatalf("client dialled node2 and met node1: %v, want a HostnameError", err)
	}
}

func TestStrangersRefused(t *testing.T) {
	now := time.Now()
	ours, theirs := cluster(t, now, "node1"), cluster(t, now, "node1")
	us, them := load(t, ours, "node1", now), load(t, theirs, "node1", now)

	t.Run("as server", func(t *testing.T) {
		_, err := meet(t, them, us, "127.0.0.1")
		var unknown x509.UnknownAuthorityError
		if !errors.As(err, &unknown) {
			t.Fatalf("client: %v, want an unknown authority", err)
		}
	})
	trusting := them.Clone() // a stranger that takes our word for everything
	trusting.RootCAs = us.RootCAs
	t.Run("as client", func(t *testing.T) {
		if err, _ := meet(t, us, trusting, "127.0.0.1"); err == nil {
			t.Fatal("server let a stranger in")
		}
	})
	t.Run("without certificate", func(t *testing.T) {
		bare := trusting.Clone()
		bare.Certificates = nil
		if err, _ := meet(t, us, bare, "127.0.0.1"); err == nil {
			t.Fatal("server let a client without a certificate in")
		}
	})
}

func TestOldTLSRefused(t *testing.T) {
	now := time.Now()
	dir := cluster(t, now, "node1", "node2")
	old := load(t, dir, "node2", now).Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if s, c := meet(t, load(t, dir, "node1", now), old, "127.0.0.1"); s == nil || c == nil {
		t.Errorf("TLS 1.2 client: server %v, client %v", s, c)
	}
	if s, c := meet(t, old, load(t, dir, "node1", now), "127.0.0.1"); s == nil || c == nil {
		t.Errorf("TLS 1.2 server: server %v, client %v", s, c)
	}
}

// A certificate that was good when it was loaded is refused by peers once it has expired, and Load refuses it too.
func TestExpired(t *testing.T) {
	now := time.Now()
	then := now.Add(-pki.NodeLife - time.Hour)
	dir := cluster(t, then, "old")
	if err := pki.Issue(dir, "fresh", now, "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	stale := load(t, dir, "old", then)
	fresh := load(t, dir, "fresh", now)
	if err, _ := meet(t, fresh, stale, "127.0.0.1"); err == nil {
		t.Error("server let an expired client in")
	}
	_, err := meet(t, stale, fresh, "127.0.0.1")
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
		t.Errorf("client with an expired server: %v", err)
	}
	wantError(t, "Load", loadErr(dir, "old", now), "old.pem expired on", "covey ca issue")
	wantError(t, "Load", loadErr(dir, "fresh", now.Add(-24*time.Hour)), "fresh.pem is valid from", "clock")
	later := then.Add(pki.CALife + time.Hour)
	wantError(t, "Load", loadErr(dir, "fresh", later), "ca.pem expired", "covey ca init")
	wantError(t, "Issue", pki.Issue(dir, "late", later), "ca.pem expired", "covey ca init")
}

// A node's certificate never outlives its authority.
func TestLifeEndsWithTheAuthority(t *testing.T) {
	then := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	dir := cluster(t, then)
	late := then.Add(pki.CALife - 24*time.Hour)
	if err := pki.Issue(dir, "node1", late); err != nil {
		t.Fatal(err)
	}
	leaf := load(t, dir, "node1", late).Certificates[0].Leaf
	if want := then.Add(pki.CALife); !leaf.NotAfter.Equal(want) {
		t.Errorf("ends %v, its CA %v", leaf.NotAfter, want)
	}
}

func loadErr(dir, name string, now time.Time) error {
	_, err := pki.Load(dir, name, now)
	return err
}

func wantError(t *testing.T, what string, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error, want one with %q", what, parts)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%s: %q does not say %q", what, err, p)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	now := time.Now()
	empty := t.TempDir()
	wantError(t, "Issue without a CA", pki.Issue(empty, "node1", now), "no file", "ca.pem", "covey ca init "+empty)
	wantError(t, "Load from nowhere", loadErr(filepath.Join(empty, "none"), "", now), "no folder", "covey ca init")
	wantError(t, "Load from an empty folder", loadErr(empty, "", now), "covey ca issue "+empty+" NAME")
	wantError(t, "Load of a node without a CA", loadErr(empty, "node1", now), "ca.pem", "covey ca init")

	dir := cluster(t, now, "node1", "node2")
	wantError(t, "Init again", pki.Init(dir, now), "ca-key.pem exists and is not overwritten")
	wantError(t, "Issue again", pki.Issue(dir, "node1", now), "node1-key.pem exists and is not overwritten")
	wantError(t, "Load of one of two", loadErr(dir, "", now), "node1, node2", "say which")
	wantError(t, "Load of an unknown node", loadErr(dir, "node3", now), "node3.pem", "covey ca issue "+dir+" node3")
	for _, bad := range []string{"", "ca", "../x", "a/b", "x-key", ".hidden", "a b"} {
		wantError(t, "Issue "+bad, pki.Issue(dir, bad, now), "cannot name a node")
	}
	for _, bad := range []string{"10.0.0.1:7000", "http://x", "-x", "0.0.0.0", "a..b"} {
		if err := pki.Issue(dir, "node9", now, bad); err == nil {
			t.Errorf("host %q was let through", bad)
		}
	}
	wantError(t, "Issue without hosts", pki.Issue(dir, "not_a_host", now), "HOST")

	other := cluster(t, now, "node1")
	mixed := func(ca, cert, key string) error {
		_, err := pki.LoadFiles(filepath.Join(ca, "ca.pem"), filepath.Join(cert, "node1.pem"), filepath.Join(key, "node1-key.pem"), now)
		return err
	}
	if err := mixed(dir, dir, dir); err != nil {
		t.Error(err)
	}
	wantError(t, "another CA's node", mixed(dir, other, other), "issued by another CA")
	wantError(t, "another node's key", mixed(dir, dir, other), "is not the key of")
	_, err := pki.LoadFiles(filepath.Join(dir, "node1.pem"), filepath.Join(dir, "node1.pem"), filepath.Join(dir, "node1-key.pem"), now)
	wantError(t, "a node for a CA", err, "not a CA's certificate")
	_, err = pki.LoadFiles(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "node1-key.pem"), filepath.Join(dir, "node1-key.pem"), now)
	wantError(t, "a key for a certificate", err, "holds a PRIVATE KEY, want a CERTIFICATE")
	_, err = pki.LoadFiles(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem"), now)
	wantError(t, "a CA for a node", err, "ca.pem is a CA's certificate, not a node's")
	junk := filepath.Join(t.TempDir(), "junk.pem")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = pki.LoadFiles(junk, junk, junk, now)
	wantError(t, "junk", err, "not a PEM file")
}

func TestKeysAreTheOwners(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no permission bits")
	}
	dir := cluster(t, time.Now(), "node1")
	for _, f := range []string{"ca-key.pem", "node1-key.pem"} {
		st, err := os.Stat(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		if m := st.Mode().Perm(); m != 0o600 {
			t.Errorf("%s has mode %v, want 0600", f, m)
		}
	}
}

// A certificate for one side alone is not a node's.
func TestOneSidedCertificateRefused(t *testing.T) {
	now := time.Now()
	dir := oneSided(t, now)
	wantError(t, "Load", loadErr(dir, "node1", now), "node1.pem", "usage", "covey ca issue")
}
