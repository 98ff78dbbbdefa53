//go:build integration

package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/tcp"
	"github.com/covey-ml/covey/pki"
)

// With a token, on loopback: neither another token, nor a signature of yesterday, nor a crowd gets in or in the way.
func TestIntrudersWithoutToken(t *testing.T) {
	at := freeAddrs(t, 1)[0]
	b := besiege(t, 2, "epoch ", []string{"COVEY_TOKEN=" + clusterToken}, "--workers", "2", "--listen", at)
	b.calm()
	if doors := doorsOf(t, b.pids["launcher"]); len(doors) != 1 || doors[0] != at {
		t.Errorf("the launcher listens at %v", doors)
	}
	for i := range 2 {
		if doors := doorsOf(t, b.pids[fmt.Sprint("worker ", i)]); len(doors) > 0 {
			t.Errorf("worker %d listens at %v though its group is whole", i, doors)
		}
	}
	wrong := command(t, "join", at, "--token", "another")
	if c := wrong.code(t); c != 2 || !strings.Contains(wrong.err.String(), "wrong token") {
		t.Errorf("with another token: exit code %d, %s", c, wrong.err.String())
	}
	b.until(t, "the wrong token is told", func() bool {
		return regexp.MustCompile(`refused 127\.0\.0\.1:\d+: it does not hold the token\n`).MatchString(b.progress())
	})

	key := tokenKey(t, clusterToken)
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	proxy, said := recorder(t, at)
	nc, err := nats.Connect("nats://"+proxy, nats.Nkey(public, key.Sign))
	if err != nil {
		t.Fatalf("who holds the token is not let in: %v", err)
	}
	nc.Close()
	if !bytes.Contains(said(), []byte(`"sig":`)) {
		t.Fatalf("no signature was recorded: %q", said())
	}
	if bytes.Contains(said(), []byte(clusterToken)) {
		t.Errorf("the token is on the wire: %q", said())
	}
	from, answer := say(t, at, said())
	if !strings.Contains(answer, "Authorization Violation") {
		t.Errorf("a signature said again: %q", answer)
	}
	b.told(from, "it does not hold the token")

	step := lastStep(filepath.Join(b.dir, "r"))
	t.Logf("%d calls", flood(t, at, 1, 400, 4*time.Second))
	b.until(t, "the crowd is told", func() bool { return strings.Contains(b.progress(), " more, the last from 127.0.0.1:") })
	b.unharmed(step)
}

// With certificates: neither one of another authority, nor an expired one, nor none gets in, nor what was recorded; and who
// joins is not taken in by a server that shows the certificate of another host.
func TestIntrudersWithoutCertificate(t *testing.T) {
	now := time.Now()
	certs := certsOf(t, now, "127.0.0.1", "here")
	// The authority is as old as its expired certificate.
	old := certsOf(t, now.Add(-pki.NodeLife-24*time.Hour), "127.0.0.1", "late")
	if err := pki.Issue(old, "here", now, "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	if err := pki.Issue(old, "elsewhere", now, "10.99.99.99"); err != nil {
		t.Fatal(err)
	}
	at := freeAddrs(t, 1)[0]
	b := besiege(t, 2, "epoch ", nil, "--workers", "2", "--listen", at, "--tls", old, "--node", "here")
	b.calm()

	mine, err := pki.Load(old, "here", now)
	if err != nil {
		t.Fatal(err)
	}
	show := func(folder, name string) *tls.Config {
		t.Helper()
		c := mine.Clone()
		c.ServerName, c.Certificates = "127.0.0.1", nil
		if name != "" {
			pair, err := tls.LoadX509KeyPair(filepath.Join(folder, name+".pem"), filepath.Join(folder, name+"-key.pem"))
			if err != nil {
				t.Fatal(err)
			}
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		return c
	}
	for _, c := range []struct{ folder, name, why string }{
		{certs, "here", "its certificate is of another CA"},
		{old, "late", "its certificate has expired, or is not valid yet"},
		{"", "", "it shows no certificate"},
	} {
		from, err := knock(t, at, show(c.folder, c.name))
		if err == nil {
			t.Fatalf("let in although %s", c.why)
		}
		b.told(from, c.why)
	}
	if _, err := knock(t, at, show(old, "here")); err != nil {
		t.Errorf("who shows its certificate is not let in: %v", err)
	}
	proxy, said := recorder(t, at)
	if _, err := knock(t, proxy, show(old, "here")); err != nil {
		t.Fatal(err)
	}
	from, _ := say(t, at, said())
	b.told(from, "it did not finish the handshake")

	// Who joins looks at the server's certificate, too.
	for name, folder := range map[string]string{"elsewhere": old, "here": certs} {
		pair, err := tls.LoadX509KeyPair(filepath.Join(folder, name+".pem"), filepath.Join(folder, name+"-key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				c.(*tls.Conn).Handshake()
				c.Close()
			}
		}()
		j := command(t, "join", ln.Addr().String(), "--tls", old, "--node", "here", "--wait", "20s")
		if c := j.code(t); c != 2 || !strings.Contains(j.err.String(), "certificate") {
			t.Errorf("joining a server with the certificate of %s: exit code %d, %s", name, c, j.err.String())
		}
		ln.Close()
	}

	step := lastStep(filepath.Join(b.dir, "r"))
	t.Logf("%d calls", flood(t, at, 2, 400, 4*time.Second))
	b.until(t, "the crowd is told", func() bool { return strings.Contains(b.progress(), " more, the last from 127.0.0.1:") })
	b.unharmed(step)
}

// A crowd at the doors of workers that wait for one of theirs is sent away by name, and the group forms.
func TestIntrudersAtWorkers(t *testing.T) {
	certs := certsOf(t, time.Now(), "127.0.0.1", "here")
	at := freeAddrs(t, 1)[0]
	b := besiege(t, 2, "worker 1 is process", nil, "--workers", "3", "--join", "1", "--listen", at, "--tls", certs)
	var doors []string
	b.until(t, "two workers listen", func() bool {
		doors = append(doorsOf(t, b.pids["worker 0"]), doorsOf(t, b.pids["worker 1"])...)
		return len(doors) == 2
	})
	b.calm()
	var held []net.Conn
	strangers := map[string]bool{}
	draw := rand.New(rand.NewPCG(3, 3))
	for _, door := range doors {
		for i := range 200 {
			c, err := net.Dial("tcp", door)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, c)
			if i%2 == 0 {
				c.SetWriteDeadline(time.Now().Add(time.Second))
				c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
				c.Write(words(draw))
			}
			strangers[c.LocalAddr().String()] = true
		}
	}
	var joined *run
	var wg sync.WaitGroup
	for i, door := range doors { // whoever comes now comes while the group forms, or to a door that has closed
		wg.Go(func() {
			draw := rand.New(rand.NewPCG(4, uint64(i)))
			for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
				if c, err := net.DialTimeout("tcp", door, 100*time.Millisecond); err == nil {
					c.SetDeadline(time.Now().Add(20 * time.Millisecond))
					c.Write(words(draw))
					io.Copy(io.Discard, c)
					c.Close()
				} else {
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	joined = command(t, "join", at, "--tls", certs)
	joined.start(t)
	b.until(t, "the group forms", b.says("epoch "))
	wg.Wait()
	for _, c := range held {
		c.Close()
	}
	for i := range 2 {
		one := regexp.MustCompile(fmt.Sprintf(`(?m)^worker %d: refused (127\.0\.0\.1:\d+): .*$`, i))
		more := regexp.MustCompile(fmt.Sprintf(`(?m)^worker %d: and \d+ more, the last from 127\.0\.0\.1:\d+ \(\d+: .*\)$`, i))
		b.until(t, "the crowd is told", func() bool { return more.MatchString(b.progress()) })
		named := 0
		for _, m := range one.FindAllStringSubmatch(b.progress(), -1) {
			if strangers[m[1]] {
				named++
			}
		}
		if named == 0 {
			t.Errorf("worker %d names nobody who called:\n%s", i, b.progress())
		}
		if doors := doorsOf(t, b.pids[fmt.Sprint("worker ", i)]); len(doors) > 0 {
			t.Errorf("worker %d listens at %v though its group is whole", i, doors)
		}
	}
	b.unharmed(lastStep(filepath.Join(b.dir, "r")))
	joined.code(t)
}

// What a worker said to get into its group does not get anybody into the next, though it has the same secret.
func TestIntruderRepeatsHello(t *testing.T) {
	ctx := context.Background()
	secret := []byte("of a test, thirty-two bytes long")
	refused := make(chan string, 1)
	form := func(through func(addr string) string, before func(addr string)) {
		t.Helper()
		var doors [2]*tcp.Listener
		for r := range doors {
			d, err := tcp.Listen(ctx, "127.0.0.1:0", nil)
			if err != nil {
				t.Fatal(err)
			}
			doors[r] = d
		}
		var errs [2]error
		var groups [2]comm.Group
		var wg sync.WaitGroup
		conf := tcp.Config{Generation: 7, Secret: secret, Setup: time.Minute}
		zero := conf
		zero.Refused = func(addr, why string) { refused <- addr + ": " + why }
		wg.Go(func() {
			groups[0], errs[0] = doors[0].Connect(ctx, 0, []string{doors[0].Addr(), doors[1].Addr()}, zero)
		})
		before(doors[0].Addr())
		wg.Go(func() {
			groups[1], errs[1] = doors[1].Connect(ctx, 1, []string{through(doors[0].Addr()), doors[1].Addr()}, conf)
		})
		wg.Wait()
		for r, g := range groups {
			if errs[r] != nil {
				t.Fatal(errs[r])
			}
			g.Close()
		}
	}
	var said func() []byte
	form(func(addr string) (at string) { at, said = recorder(t, addr); return at }, func(string) {})
	if len(said()) == 0 {
		t.Fatal("nothing was recorded")
	}
	form(func(addr string) string { return addr }, func(addr string) {
		from, _ := say(t, addr, said())
		if why := <-refused; why != from+": it does not hold this group's secret" {
			t.Errorf("told %q of %s", why, from)
		}
	})
	if len(refused) > 0 {
		t.Errorf("told %q of who belongs here", <-refused)
	}
}

// The servers of a cluster on loopback let nobody be one of them who does not hold what comes from the token.
func TestIntruderAmongServers(t *testing.T) {
	at := freeAddrs(t, 4)
	s := command(t, "serve", "--name", "a", "--listen", at[0], "--route", at[1], "--peers", at[2]+","+at[3], "--dir", "kept")
	s.Env = append(os.Environ(), "COVEY_TOKEN="+clusterToken)
	s.start(t)
	s.until(t, "it listens", func() bool {
		c, err := net.Dial("tcp", at[1])
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	for _, secret := range []string{"", clusterToken, "0123456789abcdef"} {
		from, answer := say(t, at[1], []byte(fmt.Sprintf("CONNECT {\"user\":\"covey\",\"pass\":%q,\"name\":\"z\",\"cluster\":\"covey\"}\r\nPING\r\n", secret)))
		if !strings.Contains(answer, "Authorization Violation") {
			t.Errorf("with the secret %q: %q", secret, answer)
		}
		s.until(t, "it is told", s.says("refused "+from+": it does not hold the token"))
	}
	if s.says(clusterToken)() {
		t.Errorf("the token is in the log:\n%s", s.progress())
	}
	s.Process.Signal(os.Interrupt)
	if c := s.code(t); c != 0 {
		t.Errorf("exit code %d\n%s", c, s.progress())
	}
}
