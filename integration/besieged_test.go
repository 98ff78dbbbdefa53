//go:build integration

package integration

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/pki"
)

// besieged is a run at whose doors others stand.
type besieged struct {
	*run
	t    *testing.T
	job  []string
	pids map[string]int // the launcher's and the workers'
	rss  map[string]int // of these, bytes when all was calm
	fds  map[string]int
}

// moreMemory and moreFiles are what a process may have more of for all who knocked: 400 who hold on, at some 20 KiB each, and the
// garbage of those who come and go, which the collector lets grow to as much as what lives. Workers leave garbage of their own, of which
// it lets the first 64 MiB lie.
const (
	moreMemory    = 32 << 20
	workerGarbage = 64 << 20
	moreFiles     = 8
)

// besiege starts a run that goes on until it is interrupted, with n processes of its own, and waits until it says something.
func besiege(t *testing.T, n int, says string, env []string, args ...string) *besieged {
	t.Helper()
	b := &besieged{t: t, job: []string{"--data", "digits:train=2000,test=100", "--model", "mlp:64", "--microshards", "6"}, pids: map[string]int{},
		rss: map[string]int{}, fds: map[string]int{}}
	args = append([]string{"train", "--json", "--transport", "tcp", "--epochs", "1000000", "--run", "r"}, args...)
	b.run = command(t, append(args, b.job...)...)
	b.Env = append(os.Environ(), env...)
	b.start(t)
	for i, pid := range b.run.pids(t, n, says) {
		b.pids[fmt.Sprint("worker ", i)] = pid
	}
	b.pids["launcher"] = b.Process.Pid
	return b
}

// calm notes what the processes have while nobody knocks.
func (b *besieged) calm() {
	b.t.Helper()
	for name, pid := range b.pids {
		b.rss[name], b.fds[name] = memoryOf(b.t, pid), filesOf(b.t, pid)
	}
}

// unharmed checks memory now and files in the end, and that the run, interrupted now, has the bits of one that nobody disturbed.
func (b *besieged) unharmed(from int) {
	b.t.Helper()
	for name, pid := range b.pids {
		more := moreMemory
		if name != "launcher" {
			more += workerGarbage
		}
		if now := memoryOf(b.t, pid); now > b.rss[name]+more {
			b.t.Errorf("the %s has %d MiB, and had %d", name, now>>20, b.rss[name]>>20)
		}
		b.until(b.t, name+" gives its files back", func() bool { return filesOf(b.t, pid) <= b.fds[name]+moreFiles })
	}
	b.until(b.t, "the run goes on", func() bool { return lastStep(filepath.Join(b.dir, "r")) > from+20 })
	b.Process.Signal(os.Interrupt)
	if c := b.code(b.t); c != 130 {
		b.t.Fatalf("exit code %d\n%s", c, b.progress())
	}
	var got result
	if err := json.Unmarshal(b.out.Bytes(), &got); err != nil {
		b.t.Fatal(err)
	}
	calm := train(b.t, append(b.job, "--workers", "2", "--transport", "inproc", "--steps", strconv.Itoa(got.Steps))...)
	if got.Weights != calm.Weights {
		b.t.Errorf("%d steps to weights %.12s; the calm run's are %.12s", got.Steps, got.Weights, calm.Weights)
	}
	if n := strings.Count(b.progress(), "refused 127.0.0.1:"); n > 50 {
		b.t.Errorf("%d lines of who was refused", n)
	}
}

// told waits until the run says that it refused somebody, and why.
func (b *besieged) told(addr, why string) {
	b.t.Helper()
	b.until(b.t, fmt.Sprintf("refused %s: %s", addr, why), b.says(fmt.Sprintf("refused %s: %s\n", addr, why)))
}

func memoryOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatalf("process %d has no VmRSS: %v", pid, err)
	}
	return kib << 10
}

func filesOf(t *testing.T, pid int) int {
	t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// doorsOf lists the ports at which a process listens.
func doorsOf(t *testing.T, pid int) (ports []string) {
	t.Helper()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	mine := map[string]bool{}
	for _, fd := range fds {
		if at, err := os.Readlink(fd); err == nil && strings.HasPrefix(at, "socket:[") {
			mine[strings.Trim(at, "socket:[]")] = true
		}
	}
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		const listening = "0A"
		f := strings.Fields(line)
		if len(f) < 10 || f[3] != listening || !mine[f[9]] {
			continue
		}
		_, hex, _ := strings.Cut(f[1], ":")
		port, err := strconv.ParseUint(hex, 16, 16)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, fmt.Sprint("127.0.0.1:", port))
	}
	return ports
}

// words are what strangers say in a flood.
func words(draw *rand.Rand) []byte {
	random := make([]byte, 1+draw.IntN(20_000))
	for i := range random {
		random[i] = byte(draw.Uint32())
	}
	switch draw.IntN(5) {
	case 0:
		return append([]byte("CONNECT {\"x\":\""), bytes.Repeat([]byte("x"), 20_000)...) // a line without an end
	case 1:
		return []byte("PUB a 99999999999999\r\n")
	case 2: // a TLS record of the greatest length
		return append([]byte{22, 3, 1, 0xff, 0xff}, random...)
	case 3: // a frame that announces two GiB
		frame := append([]byte("COVY\x01\x01\x00\x00"), make([]byte, 36)...)
		binary.LittleEndian.PutUint32(frame[20:], 1<<31)
		return frame
	}
	return random
}

// flood is a crowd at a door for some time: many at once who say nothing, and one after the other who talk nonsense.
func flood(t *testing.T, addr string, seed uint64, silent int, d time.Duration) (calls int) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	end := time.Now().Add(d)
	for k := range 4 {
		draw := rand.New(rand.NewPCG(seed, uint64(k)))
		wg.Go(func() {
			var held []net.Conn
			for time.Now().Before(end) {
				c, err := net.DialTimeout("tcp", addr, time.Second)
				if err != nil {
					continue
				}
				if len(held) < silent/4 {
					held = append(held, c)
				} else {
					c.SetDeadline(time.Now().Add(50 * time.Millisecond))
					c.Write(words(draw))
					io.Copy(io.Discard, c)
					c.Close()
				}
				mu.Lock()
				calls++
				mu.Unlock()
			}
			for _, c := range held {
				c.Close()
			}
		})
	}
	wg.Wait()
	if calls < silent {
		t.Fatalf("seed %d: %d calls, expected at least %d", seed, calls, silent)
	}
	return calls
}

// recorder passes one connection on to addr and keeps what its client said.
func recorder(t *testing.T, addr string) (at string, said func() []byte) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	var mu sync.Mutex
	var record bytes.Buffer
	go func() {
		in, err := ln.Accept()
		if err != nil {
			return
		}
		defer in.Close()
		out, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		defer out.Close()
		go func() { io.Copy(in, out); in.Close() }()
		buf := make([]byte, 64<<10)
		for {
			n, err := in.Read(buf)
			mu.Lock()
			record.Write(buf[:n])
			mu.Unlock()
			if _, werr := out.Write(buf[:n]); err != nil || werr != nil {
				return
			}
		}
	}()
	return ln.Addr().String(), func() []byte {
		mu.Lock()
		defer mu.Unlock()
		return bytes.Clone(record.Bytes())
	}
}

// say tells a door something and returns from where, and what came back before it hung up.
func say(t *testing.T, addr string, words []byte) (from, answer string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	c.Write(words)
	got, err := io.ReadAll(c)
	var slow net.Error
	if errors.As(err, &slow) && slow.Timeout() {
		t.Fatalf("%s did not hang up", addr)
	}
	return c.LocalAddr().String(), string(got)
}

// certsOf makes an authority at a time, and in its folder certificates for these names and this host.
func certsOf(t *testing.T, at time.Time, host string, names ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "certs")
	if err := pki.Init(dir, at); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := pki.Issue(dir, n, at, host); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// knock shows a certificate at a TLS door and returns from where, and how that went.
func knock(t *testing.T, addr string, conf *tls.Config) (from string, err error) {
	t.Helper()
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(30 * time.Second))
	c := tls.Client(raw, conf)
	if err = c.Handshake(); err == nil {
		_, err = c.Read(make([]byte, 1)) // what the server thinks of the certificate comes after the handshake
	}
	return raw.LocalAddr().String(), err
}
