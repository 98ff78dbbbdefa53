package tcp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

func TestBeyondLoopbackNeedsCertificates(t *testing.T) {
	ctx := context.Background()
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0"} {
		_, err := Listen(ctx, addr, nil)
		wantText(t, err, addr, "covey ca init", "covey ca issue", "127.0.0.1")
	}
	lns, _ := listen(t, 1, nil)
	_, err := lns[0].Connect(ctx, 1, []string{"192.0.2.1:9", lns[0].Addr()}, Config{Secret: secret})
	wantText(t, err, "rank 0 at 192.0.2.1:9", "covey ca init")
	if !errors.Is(err, errExposed) {
		t.Errorf("%v", err)
	}
	_, err = Listen(ctx, "nonsense", nil)
	wantText(t, err, `"nonsense"`, "host:port")
}

// A name is looked up, and what it stands for decides.
func TestLocalhostIsLoopback(t *testing.T) {
	ln, err := Listen(context.Background(), "localhost:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
}

func TestPortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = Listen(context.Background(), ln.Addr().String(), nil)
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	wantText(t, err, "port "+port+" on 127.0.0.1 is in use", "another port")
}

func TestBadConfig(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		rank  comm.Rank
		addrs []string
		cfg   Config
		want  string
	}{
		{2, []string{"a:1", "b:1"}, Config{Secret: secret}, "rank 2 in a group of 2"},
		{0, []string{"a:1", "b:1"}, Config{Secret: secret[:MinSecret-1]}, "secret has 15 bytes"},
		{0, []string{"a:1", "b:1"}, Config{Secret: secret, Timeout: -1}, "negative"},
		{1, []string{"nonsense", "b:1"}, Config{Secret: secret}, `"nonsense" of rank 0`},
	} {
		lns, _ := listen(t, 1, nil)
		_, err := lns[0].Connect(ctx, c.rank, c.addrs, c.cfg)
		wantText(t, err, c.want)
		_, err = lns[0].Connect(ctx, 0, []string{"a:1"}, Config{Secret: secret})
		wantText(t, err, "was called before")
	}
	good, err := credential()
	if err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func(*tls.Config){
		"has no certificate":    func(c *tls.Config) { c.Certificates = nil },
		"cluster's CA":          func(c *tls.Config) { c.RootCAs = nil },
		"cluster's CA for both": func(c *tls.Config) { c.ClientCAs = nil },
		"skips verification":    func(c *tls.Config) { c.InsecureSkipVerify = true },
		"forbids TLS 1.3":       func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
	} {
		conf := good.Clone()
		spoil(conf)
		_, err := Listen(ctx, "127.0.0.1:0", conf)
		wantText(t, err, what, "covey ca")
	}
	lax := good.Clone() // what can be put right is
	lax.MinVersion, lax.ClientAuth = tls.VersionTLS10, tls.NoClientCert
	newGroups(t, 2, lax, patient)
}

// Ranks may start in any order and long after one another.
func TestLateComers(t *testing.T) {
	// Reserve an address and leave it, so that the others dial into nothing first.
	lns, addrs := listen(t, 3, nil)
	lns[0].Close()
	cfg := Config{Secret: secret}
	type result struct {
		g   comm.Group
		err error
	}
	results := make(chan result, 3)
	for r := 1; r < 3; r++ {
		go func() {
			g, err := lns[r].Connect(context.Background(), comm.Rank(r), addrs, cfg)
			results <- result{g, err}
		}()
	}
	// Once rank 1 was refused at least once, rank 0 comes.
	first, err := Listen(context.Background(), addrs[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		g, err := first.Connect(context.Background(), 0, addrs, cfg)
		results <- result{g, err}
	}()
	var groups []*group
	for range 3 {
		r := <-results
		if r.err != nil {
			t.Fatal(r.err)
		}
		groups = append(groups, r.g.(*group))
	}
	closeAll(t, groups)
}

// Who does not come within the time for setting up is named, with rank and address, by those who dial and those who wait.
func TestAbsentPeerIsNamed(t *testing.T) {
	lns, addrs := listen(t, 3, nil)
	lns[1].Close()
	groups, errs := connect([]*Listener{lns[0], nil, lns[2]}[:1], addrs, func(int) Config {
		return Config{Secret: secret, Setup: 100 * time.Millisecond}
	})
	if groups[0] != nil {
		t.Fatal("a group without rank 1")
	}
	wantText(t, errs[0], "rank 1 ("+addrs[1]+") did not call rank 0 at "+addrs[0], "rank 2", "timed out")
	if !errors.Is(errs[0], comm.ErrTimeout) {
		t.Errorf("%v does not wrap ErrTimeout", errs[0])
	}
	_, err := lns[2].Connect(context.Background(), 2, addrs, Config{Secret: secret, Setup: 100 * time.Millisecond})
	wantText(t, err, "rank 2 cannot reach rank 1 at "+addrs[1], "timed out", "refused")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errEnough)
	more, _ := listen(t, 1, nil)
	if _, err := more[0].Connect(ctx, 2, addrs, Config{Secret: secret}); !errors.Is(err, errEnough) {
		t.Errorf("%v, want the context's cause", err)
	}
}

// A process that listens and never answers is told from one that is not there.
func TestMutePeer(t *testing.T) {
	lns, addrs := listen(t, 2, nil)
	_, err := lns[1].Connect(context.Background(), 1, addrs, Config{Secret: secret, Setup: 200 * time.Millisecond})
	wantText(t, err, "rank 1 cannot reach rank 0 at "+addrs[0], "did not answer")
}

// The dialling side knows at once that trying again is no use; the other goes on waiting for the right one.
func TestNotOfOneGroup(t *testing.T) {
	both(t, func(t *testing.T, conf *tls.Config) {
		for name, c := range map[string]struct {
			caller func(*Config, *[]string)
			want   string
		}{
			"secret":     {func(c *Config, _ *[]string) { c.Secret = []byte("another secret of many bytes") }, "does not hold this group's secret"},
			"generation": {func(c *Config, _ *[]string) { c.Generation = 8 }, "this is generation 7, the caller is of generation 8"},
			"size":       {func(_ *Config, a *[]string) { *a = append(*a, "127.0.0.1:9") }, "this group has 2 ranks, the caller's has 3"},
		} {
			t.Run(name, func(t *testing.T) {
				lns, addrs := listen(t, 3, conf)
				base := Config{Generation: 7, Secret: secret}
				type result struct {
					g   comm.Group
					err error
				}
				done := make(chan result, 2)
				pair := []string{addrs[0], addrs[1]}
				go func() {
					g, err := lns[0].Connect(context.Background(), 0, pair, base)
					done <- result{g, err}
				}()
				cfg, theirs := base, pair
				c.caller(&cfg, &theirs)
				_, err := lns[2].Connect(context.Background(), 1, theirs, cfg)
				if !errors.Is(err, ErrRefused) {
					t.Errorf("%v, want ErrRefused", err)
				}
				wantText(t, err, "rank 0 at "+addrs[0], c.want)
				go func() { // now the right one
					g, err := lns[1].Connect(context.Background(), 1, pair, base)
					done <- result{g, err}
				}()
				var groups []*group
				for range 2 {
					r := <-done
					if r.err != nil {
						t.Fatal(r.err)
					}
					groups = append(groups, r.g.(*group))
				}
				closeAll(t, groups)
			})
		}
	})
}

// A node of another cluster is refused whichever side it is on, and both sides' errors say so.
func TestStrangersCertificate(t *testing.T) {
	ours, err := credential()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := newCredential("node")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // the alert must not be lost to a reset
		ln0, addr0 := listen(t, 1, ours)
		ln1, addr1 := listen(t, 1, theirs)
		addrs := []string{addr0[0], addr1[0]}
		_, errs := connect([]*Listener{ln0[0], ln1[0]}, addrs, func(int) Config { return Config{Secret: secret, Setup: 300 * time.Millisecond} })
		var unknown x509.UnknownAuthorityError
		if !errors.Is(errs[1], ErrRefused) || !errors.As(errs[1], &unknown) {
			t.Fatalf("the stranger that dials: %v", errs[1])
		}
		wantText(t, errs[0], "rank 1 ("+addrs[1]+") did not call", "stranger was sent away", "certificate")

		credulous := theirs.Clone()
		credulous.RootCAs = ours.RootCAs
		ln0, addr0 = listen(t, 1, ours)
		ln1, addr1 = listen(t, 1, credulous)
		addrs = []string{addr0[0], addr1[0]}
		_, errs = connect([]*Listener{ln0[0], ln1[0]}, addrs, func(int) Config { return Config{Secret: secret, Setup: 300 * time.Millisecond} })
		if !errors.Is(errs[1], ErrRefused) {
			t.Fatalf("the stranger that believes us: %v", errs[1])
		}
	}
}

// One side with TLS and one without do not meet, and the error asks the right question.
func TestMixedTLS(t *testing.T) {
	conf, err := credential()
	if err != nil {
		t.Fatal(err)
	}
	plain, a := listen(t, 1, nil)
	secured, b := listen(t, 1, conf)
	for _, lns := range [][]*Listener{{plain[0], secured[0]}} {
		_, errs := connect(lns, []string{a[0], b[0]}, func(int) Config { return Config{Secret: secret, Setup: 300 * time.Millisecond} })
		wantText(t, errs[1], "do both sides use TLS")
		wantText(t, errs[0], "stranger was sent away")
	}
}

// The certificate must name the host that was dialled.
func TestOtherHostsCertificate(t *testing.T) {
	conf, err := credential()
	if err != nil {
		t.Fatal(err)
	}
	lns, addrs := listen(t, 2, conf)
	_, port, _ := net.SplitHostPort(addrs[0])
	addrs[0] = "localhost:" + port // the certificate says 127.0.0.1
	_, errs := connect(lns, addrs, func(int) Config { return Config{Secret: secret, Setup: 300 * time.Millisecond} })
	var host x509.HostnameError
	if !errors.As(errs[1], &host) || !errors.Is(errs[1], ErrRefused) {
		t.Errorf("%v, want a HostnameError", errs[1])
	}
}

// A rank that cannot form the group tells those who are connected to it, and may be at work already, whom it missed.
func TestWhoGivesUpConnectingSaysWhy(t *testing.T) {
	both(t, func(t *testing.T, conf *tls.Config) {
		lns, addrs := listen(t, 3, conf)
		nowhere, _ := listen(t, 1, conf)
		astray := append([]string{nowhere[0].Addr()}, addrs[1:]...)
		nowhere[0].Close()
		var wg sync.WaitGroup
		errs := make([]error, 3)
		var g comm.Group
		for r, ln := range lns {
			wg.Go(func() {
				cfg, to := Config{Secret: secret, Timeout: patient, Setup: 500 * time.Millisecond}, addrs
				switch r {
				case 1: // it has all it needs
					cfg.Setup = patient
				case 2:
					to = astray
				}
				got, err := ln.Connect(context.Background(), comm.Rank(r), to, cfg)
				if errs[r] = err; r == 1 {
					g = got
				}
				if err == nil {
					errs[r] = comm.Barrier(context.Background(), got)
				}
			})
		}
		wg.Wait()
		if g != nil {
			defer g.Close()
		}
		peerError(t, errs[0], 2, comm.ErrTimeout)
		peerError(t, errs[2], 0, comm.ErrTimeout)
		var pe *comm.PeerError
		if !errors.As(errs[1], &pe) || pe.Rank == 1 || !errors.Is(pe, comm.ErrTimeout) || pe.Op != comm.OpControl {
			t.Errorf("the rank that is at work says: %v", errs[1])
		}
	})
}
