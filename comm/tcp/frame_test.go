package tcp

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/covey-ml/covey/comm"
)

func sample() header {
	return header{kind: kindData, generation: 7, from: 3, tag: comm.MakeTag(comm.OpAllReduce, 5), length: FrameBytes,
		rest: 123456, sum: 0xdeadbeef}
}

func TestHeaderRoundTrip(t *testing.T) {
	var b [HeaderBytes]byte
	want, got := sample(), header{}
	want.put(&b)
	if err := got.parse(&b); err != nil || got != want {
		t.Fatalf("parse(put(%+v)) = %+v, %v", want, got, err)
	}
}

// Every single flipped bit of a header is noticed.
func TestHeaderFlippedBits(t *testing.T) {
	h := sample()
	for bit := range HeaderBytes * 8 {
		var b [HeaderBytes]byte
		h.put(&b)
		b[bit/8] ^= 1 << (bit % 8)
		var got header
		var fe *FrameError
		if err := got.parse(&b); !errors.As(err, &fe) {
			t.Errorf("bit %d flipped: %v, want a *FrameError", bit, err)
		}
	}
}

// Bounds hold for headers whose checksum is right, too: a peer of another make may send them.
func TestHeaderBounds(t *testing.T) {
	for _, c := range []struct {
		field string
		spoil func(b []byte)
	}{
		{"kind", func(b []byte) { b[5] = 0 }},
		{"kind", func(b []byte) { b[5] = byte(kindEnd) }},
		{"reserved field", func(b []byte) { b[7] = 1 }},
		{"rank", func(b []byte) { b[19] = 0x80 }},
		{"length", func(b []byte) { binary.LittleEndian.PutUint32(b[20:], FrameBytes+1) }},
		{"rest of the message", func(b []byte) { binary.LittleEndian.PutUint64(b[32:], maxMessage+1) }},
		{"length of a frame that is not the last", func(b []byte) { binary.LittleEndian.PutUint32(b[20:], 5) }},
		{"rest of a control frame", func(b []byte) { b[5] = byte(kindAbort) }},
	} {
		var b [HeaderBytes]byte
		h := sample()
		h.put(&b)
		c.spoil(b[:])
		binary.LittleEndian.PutUint32(b[44:], crc32.Checksum(b[:44], castagnoli))
		var fe *FrameError
		if err := h.parse(&b); !errors.As(err, &fe) || fe.Field != c.field {
			t.Errorf("%v, want a bad %s", err, c.field)
		}
	}
}

func FuzzFrame(f *testing.F) {
	var b [HeaderBytes]byte
	h := sample()
	h.put(&b)
	f.Add(b[:], true)
	f.Add(b[:20], false)
	f.Add([]byte("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n"), false)
	f.Fuzz(func(t *testing.T, in []byte, seal bool) {
		var b, again [HeaderBytes]byte
		copy(b[:], in)
		if seal { // past the checksum, to the bounds behind it
			binary.LittleEndian.PutUint32(b[0:], magic)
			b[4] = version
			binary.LittleEndian.PutUint32(b[44:], crc32.Checksum(b[:44], castagnoli))
		}
		var h header
		if h.parse(&b) != nil {
			return
		}
		if h.length < 0 || h.length > FrameBytes || h.rest < 0 || h.rest > maxMessage || h.from < 0 {
			t.Fatalf("out of bounds and let through: %+v", h)
		}
		if h.put(&again); again != b {
			t.Fatalf("%x parses and prints as %x", b, again)
		}
	})
}
