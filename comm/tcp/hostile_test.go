package tcp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

// frameOf is a frame of rank 1 as it would be right; spoil changes it before the header is sealed.
func frameOf(k kind, generation uint64, payload []byte, spoil func(h *header, b []byte)) []byte {
	var b [HeaderBytes]byte
	h := header{kind: k, generation: generation, from: 1, tag: tag, length: len(payload), sum: crc32.Checksum(payload, castagnoli)}
	if spoil != nil {
		spoil(&h, nil)
	}
	h.put(&b)
	if spoil != nil {
		spoil(&h, b[:])
	}
	return append(b[:], payload...)
}

func onHeader(f func(h *header)) func(*header, []byte) {
	return func(h *header, b []byte) {
		if b == nil {
			f(h)
		}
	}
}

func onBytes(f func(b []byte)) func(*header, []byte) {
	return func(_ *header, b []byte) {
		if b != nil {
			f(b)
		}
	}
}

// strangersWords is what a port may be told by those who have no business there.
func strangersWords() map[string][]byte {
	first := hello{stage: stageCall, size: 2, to: 0}
	random := make([]byte, 5000)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(random)
	return map[string][]byte{
		"nothing":         nil,
		"HTTP":            []byte("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: curl\r\nAccept: */*\r\n\r\n"),
		"TLS":             append([]byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, random[:600]...),
		"random bytes":    random,
		"bad magic":       frameOf(kindHello, 7, first.encode(), onBytes(func(b []byte) { b[0]++ })),
		"bad version":     frameOf(kindHello, 7, first.encode(), onBytes(func(b []byte) { b[4]++ })),
		"bad header CRC":  frameOf(kindHello, 7, first.encode(), onBytes(func(b []byte) { b[44]++ })),
		"bad payload CRC": frameOf(kindHello, 7, first.encode(), onHeader(func(h *header) { h.sum++ })),
		"huge length": frameOf(kindHello, 7, nil, onBytes(func(b []byte) {
			binary.LittleEndian.PutUint32(b[20:], 1<<31)
			binary.LittleEndian.PutUint32(b[44:], crc32.Checksum(b[:44], castagnoli))
		})),
		"long hello":          frameOf(kindHello, 7, random, nil),
		"short hello":         frameOf(kindHello, 7, random[:5], nil),
		"data before a hello": frameOf(kindData, 7, random, nil),
		"goodbye":             frameOf(kindGoodbye, 7, nil, nil),
		"wrong generation":    frameOf(kindHello, 8, first.encode(), nil),
		"wrong stage":         frameOf(kindHello, 7, (&hello{stage: stageProof, size: 2}).encode(), nil),
		"proof out of the air": append(frameOf(kindHello, 7, first.encode(), nil),
			frameOf(kindHello, 7, (&hello{stage: stageProof, size: 2, proof: [32]byte{1, 2, 3}}).encode(), nil)...),
		"call and silence": frameOf(kindHello, 7, first.encode(), nil),
		"rank of no one":   frameOf(kindHello, 7, first.encode(), onHeader(func(h *header) { h.from = 1 << 30 })),
		"own rank":         frameOf(kindHello, 7, first.encode(), onHeader(func(h *header) { h.from = 0 })),
	}
}

// visit says words to addr, hangs up its side, and returns what was answered before the other side hung up, too.
func visit(addr string, words []byte) ([]byte, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Write(words); err == nil {
		c.(*net.TCPConn).CloseWrite()
	}
	answer, err := io.ReadAll(c)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return answer, errors.New("the connection was not closed")
	}
	return answer, nil
}

// waiting is rank 0 of 2, in Connect; finish lets the true rank 1 in and tries the group.
func waiting(t testing.TB) (addr string, finish func()) {
	lns, addrs := listen(t, 2, nil)
	cfg := Config{Generation: 7, Secret: secret}
	var zero comm.Group
	var zeroErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		zero, zeroErr = lns[0].Connect(context.Background(), 0, addrs, cfg)
	}()
	return addrs[0], func() {
		one, err := lns[1].Connect(context.Background(), 1, addrs, cfg)
		<-done
		if err := errors.Join(zeroErr, err); err != nil {
			t.Fatal(err)
		}
		groups := []*group{zero.(*group), one.(*group)}
		var wg sync.WaitGroup
		for _, g := range groups {
			wg.Go(func() {
				if err := exchange(g, []int{1000}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		closeAll(t, groups)
	}
}

// No stranger learns more than why he is not wanted, all are sent away, and the group forms as if they had not been.
func TestStrangers(t *testing.T) {
	addr, finish := waiting(t)
	for name, words := range strangersWords() {
		answer, err := visit(addr, words)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if bytes.Contains(answer, secret) || len(answer) > HeaderBytes+max(helloBytes, maxReason) {
			t.Errorf("%s: answered %q", name, answer)
		}
	}
	finish()
}

// Strangers who connect and say little or nothing neither keep the group waiting nor outlive its forming.
func TestSlowStrangers(t *testing.T) {
	addr, finish := waiting(t)
	half := frameOf(kindHello, 7, (&hello{stage: stageCall, size: 2}).encode(), nil)[:HeaderBytes+3]
	var conns []net.Conn
	for i := range 3 * strangers {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(half[:i%len(half)]); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	start := time.Now()
	finish()
	if d := time.Since(start); d > handshake-time.Second {
		t.Errorf("the group waited %v for strangers", d)
	}
	for i, c := range conns {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		var ne net.Error
		if _, err := io.ReadAll(c); errors.As(err, &ne) && ne.Timeout() {
			t.Errorf("stranger %d is still connected", i)
		}
	}
}

// Nobody listens any more once the group is whole.
func TestClosedDoor(t *testing.T) {
	lns, addrs := listen(t, 2, nil)
	groups, errs := connect(lns, addrs, func(int) Config { return Config{Secret: secret} })
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	defer closeAll(t, groups)
	for _, a := range addrs {
		if c, err := net.Dial("tcp", a); err == nil {
			c.Close()
			t.Errorf("%s still answers", a)
		}
	}
}

// Garbage on an established link loses that peer, with a cause that says what was wrong; the others talk on.
func TestGarbageOnALink(t *testing.T) {
	payload := []byte("a payload of some length")
	plain := comm.MakeTag(comm.OpSend, 9)
	for name, c := range map[string]struct {
		frame []byte
		field string
	}{
		"magic":         {frameOf(kindData, 3, payload, onBytes(func(b []byte) { b[1]++ })), "magic"},
		"version":       {frameOf(kindData, 3, payload, onBytes(func(b []byte) { b[4] = 9 })), "version"},
		"header CRC":    {frameOf(kindData, 3, payload, onBytes(func(b []byte) { b[30]++ })), "header checksum"},
		"payload CRC":   {frameOf(kindData, 3, payload, onHeader(func(h *header) { h.sum++ })), "payload checksum"},
		"generation":    {frameOf(kindData, 4, payload, nil), "generation"},
		"rank":          {frameOf(kindData, 3, payload, onHeader(func(h *header) { h.from = 2 })), "sender's rank"},
		"hello":         {frameOf(kindHello, 3, nil, nil), "kind"},
		"more of what":  {frameOf(kindMore, 3, payload, nil), "kind of a frame that continues nothing"},
		"long abort":    {frameOf(kindAbort, 3, make([]byte, comm.PeerErrorSize+1), nil), "length of an abort"},
		"abort CRC":     {frameOf(kindAbort, 3, payload, onHeader(func(h *header) { h.sum++ })), "payload checksum"},
		"wordy goodbye": {frameOf(kindGoodbye, 3, payload, nil), "length of a goodbye"},
	} {
		t.Run(name, func(t *testing.T) {
			groups := newGroups(t, 3, nil, patient)
			r := groups[0].Post(1, tag, make([]byte, 100))
			l := groups[1].links[0]
			if _, err := l.write(c.frame, nil); err != nil {
				t.Fatal(err)
			}
			_, _, err := r.Wait(context.Background())
			var fe *FrameError
			if !errors.As(peerError(t, err, 1, comm.ErrLost), &fe) || fe.Field != c.field {
				t.Errorf("%v, want a bad %s", err, c.field)
			}
			for _, pair := range [][2]comm.Rank{{0, 2}, {1, 2}, {2, 0}, {2, 1}} {
				p := []byte{1}
				if err := groups[pair[0]].Send(context.Background(), pair[1], plain, p); err != nil {
					t.Error(err)
				}
				if _, _, err := groups[pair[1]].Recv(context.Background(), pair[0], plain, p); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A message that is announced as huge takes no memory that nobody offered.
func TestHugeAnnouncement(t *testing.T) {
	groups := newGroups(t, 2, nil, patient)
	h := header{kind: kindData, generation: 3, from: 1, tag: tag, length: FrameBytes, rest: maxMessage - FrameBytes}
	var b [HeaderBytes]byte
	h.put(&b)
	if _, err := groups[1].links[0].write(b[:], nil); err != nil {
		t.Fatal(err)
	}
	_, _, err := groups[0].Recv(context.Background(), 1, tag, make([]byte, 10))
	var se *comm.SizeError
	if !errors.As(err, &se) || int64(se.Need) != maxMessage {
		t.Errorf("%v, want a SizeError of %d bytes", err, int64(maxMessage))
	}
}

// FuzzStranger says anything at all to a live listener, which must hang up, say little and stay well.
func FuzzStranger(f *testing.F) {
	for _, words := range strangersWords() {
		f.Add(words)
	}
	addr, finish := waiting(f)
	f.Fuzz(func(t *testing.T, words []byte) {
		answer, err := visit(addr, words)
		if err != nil {
			t.Error(err)
		}
		if len(answer) > HeaderBytes+max(helloBytes, maxReason) {
			t.Errorf("answered %d bytes: %q", len(answer), answer)
		}
	})
	finish()
}

// FuzzLink puts anything at all on an established link: the other side keeps or loses the peer and does nothing else.
func FuzzLink(f *testing.F) {
	h := frameOf(kindData, 3, []byte("hello"), nil)
	f.Add(h, false)
	f.Add(append(h, frameOf(kindGoodbye, 3, nil, nil)...), true)
	f.Add(frameOf(kindAbort, 3, comm.AppendPeerError(nil, &comm.PeerError{Rank: 1, Op: comm.OpBarrier, Step: -1, Cause: comm.ErrLost}), nil), true)
	f.Add(frameOf(kindData, 3, make([]byte, 1000), onHeader(func(h *header) { h.length = FrameBytes; h.rest = 77 })), true)
	f.Fuzz(func(t *testing.T, in []byte, seal bool) {
		if seal && len(in) >= HeaderBytes { // past the checksums, to the checks behind them
			le := binary.LittleEndian
			le.PutUint32(in, magic)
			in[4] = version
			le.PutUint64(in[8:], 3)
			le.PutUint32(in[16:], 1)
			if n := int(le.Uint32(in[20:])); n <= len(in)-HeaderBytes {
				le.PutUint32(in[40:], crc32.Checksum(in[HeaderBytes:HeaderBytes+n], castagnoli))
			}
			le.PutUint32(in[44:], crc32.Checksum(in[:44], castagnoli))
		}
		groups := newGroups(t, 2, nil, patient)
		r := groups[0].Post(1, tag, make([]byte, 64))
		l := groups[1].links[0]
		l.expire(time.Now().Add(10 * time.Second))
		l.write(in, nil)
		l.fail(comm.ErrLost)
		_, n, err := r.Wait(context.Background())
		var pe *comm.PeerError
		var se *comm.SizeError
		if err == nil && n > 64 || err != nil && !errors.As(err, &pe) && !errors.As(err, &se) {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}
