package tcp

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/covey-ml/covey/comm"
)

const (
	// HeaderBytes is the size of a frame's header.
	HeaderBytes = 48
	// FrameBytes is the most payload that one frame carries.
	FrameBytes = 256 << 10

	magic      = 0x59564f43 // "COVY"
	version    = 1
	maxMessage = 1 << 40
)

// kind is what a frame is for.
type kind uint8

const (
	kindHello   kind = 1 + iota // the handshake
	kindData                    // a message, or its first part
	kindMore                    // the next part of the message before
	kindAbort                   // the sender gave up a collective
	kindGoodbye                 // the sender leaves in order; before the handshake ends: is refused, and why
	kindEnd
)

// header is a frame's header, decoded.
type header struct {
	kind       kind
	generation uint64
	from       comm.Rank
	tag        comm.Tag
	length     int    // payload bytes in this frame
	rest       int64  // payload bytes of the message in later frames
	sum        uint32 // CRC32C of the payload
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// foldBytes is how much update takes at a time, and remainder what that leaves. Whoever takes sums keeps one, for on the
// stack it would not stay there.
const foldBytes = 256

type remainder [foldBytes]byte

// FrameError says which part of a frame was not what it must be. The connection it came on is closed.
type FrameError struct {
	Field     string
	Got, Want uint64
}

func (e *FrameError) Error() string {
	return fmt.Sprintf("bad frame: %s is %#x, must be %#x", e.Field, e.Got, e.Want)
}

// put writes h to b.
func (h *header) put(b *[HeaderBytes]byte) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], magic)
	b[4], b[5], b[6], b[7] = version, byte(h.kind), 0, 0
	le.PutUint64(b[8:], h.generation)
	le.PutUint32(b[16:], uint32(h.from))
	le.PutUint32(b[20:], uint32(h.length))
	le.PutUint64(b[24:], uint64(h.tag))
	le.PutUint64(b[32:], uint64(h.rest))
	le.PutUint32(b[40:], h.sum)
	le.PutUint32(b[44:], crc32.Checksum(b[:44], castagnoli))
}

// parse reads a header and holds it to every bound that does not depend on the link.
func (h *header) parse(b *[HeaderBytes]byte) error {
	le := binary.LittleEndian
	if m := le.Uint32(b[0:]); m != magic {
		return &FrameError{"magic", uint64(m), magic}
	}
	if b[4] != version {
		return &FrameError{"version", uint64(b[4]), version}
	}
	if got, want := le.Uint32(b[44:]), crc32.Checksum(b[:44], castagnoli); got != want {
		return &FrameError{"header checksum", uint64(got), uint64(want)}
	}
	length, rest, from := le.Uint32(b[20:]), le.Uint64(b[32:]), le.Uint32(b[16:])
	switch {
	case b[5] == 0 || b[5] >= byte(kindEnd):
		return &FrameError{"kind", uint64(b[5]), uint64(kindData)}
	case b[6]|b[7] != 0:
		return &FrameError{"reserved field", uint64(le.Uint16(b[6:])), 0}
	case from > math.MaxInt32:
		return &FrameError{"rank", uint64(from), math.MaxInt32}
	case length > FrameBytes:
		return &FrameError{"length", uint64(length), FrameBytes}
	case rest > maxMessage || rest > math.MaxInt-FrameBytes:
		return &FrameError{"rest of the message", rest, min(maxMessage, math.MaxInt-FrameBytes)}
	case rest > 0 && length != FrameBytes:
		return &FrameError{"length of a frame that is not the last", uint64(length), FrameBytes}
	}
	h.kind, h.generation, h.from, h.tag = kind(b[5]), le.Uint64(b[8:]), comm.Rank(from), comm.Tag(le.Uint64(b[24:]))
	h.length, h.rest, h.sum = int(length), int64(rest), le.Uint32(b[40:])
	if k := h.kind; rest > 0 && k != kindData && k != kindMore {
		return &FrameError{"rest of a control frame", rest, 0}
	}
	return nil
}

// frames is the number of frames that carry a message of n bytes.
func frames(n int) int { return max(1, (n+FrameBytes-1)/FrameBytes) }

// Overhead is the header bytes of a message of n bytes.
func Overhead(n int) int { return frames(n) * HeaderBytes }
