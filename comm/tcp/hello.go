package tcp

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/covey-ml/covey/comm"
)

// The handshake is three hello frames. The dialler calls (its nonce), the other side answers (its own nonce and a
// proof over both), the dialler proves too. Who cannot check the other's proof hangs up. A call that is well formed
// but for another group is told why in a goodbye frame.

const (
	stageCall   = 1
	stageAnswer = 2
	stageProof  = 3

	nonceBytes = 32
	helloBytes = 1 + 4 + 4 + nonceBytes + sha256.Size
	maxReason  = 200 // bytes of a refusal's text
)

// ErrRefused is wrapped by errors of Connect that say that one side did not accept the other's credentials, or that
// they are not of one group. Trying again does not help.
var ErrRefused = errors.New("refused")

// member is what the two sides of a handshake must agree on.
type member struct {
	generation uint64
	size       int
	secret     []byte
}

// hello is the payload of a hello frame; fields that a stage does not use are zero.
type hello struct {
	stage byte
	size  uint32
	to    uint32
	nonce [nonceBytes]byte
	proof [sha256.Size]byte
}

func (h *hello) encode() []byte {
	b := append(make([]byte, 0, helloBytes), h.stage)
	b = binary.LittleEndian.AppendUint32(b, h.size)
	b = binary.LittleEndian.AppendUint32(b, h.to)
	b = append(b, h.nonce[:]...)
	return append(b, h.proof[:]...)
}

func (h *hello) decode(b []byte) {
	h.stage, h.size, h.to = b[0], binary.LittleEndian.Uint32(b[1:]), binary.LittleEndian.Uint32(b[5:])
	copy(h.nonce[:], b[9:])
	copy(h.proof[:], b[9+nonceBytes:])
}

// proof is the keyed hash of everything said, so that it is good for this pair, this group, this TLS session and this
// once; role keeps one side from being sent back its own.
func (m *member) proof(role string, dialler, other comm.Rank, theirs, ours *[nonceBytes]byte, session []byte) (p [sha256.Size]byte) {
	mac := hmac.New(sha256.New, m.secret)
	io.WriteString(mac, "covey tcp 1 "+role+"\n")
	var b []byte
	b = binary.LittleEndian.AppendUint64(b, m.generation)
	b = binary.LittleEndian.AppendUint32(b, uint32(m.size))
	b = binary.LittleEndian.AppendUint32(b, uint32(dialler))
	b = binary.LittleEndian.AppendUint32(b, uint32(other))
	mac.Write(b)
	mac.Write(theirs[:])
	mac.Write(ours[:])
	mac.Write(session)
	mac.Sum(p[:0])
	return p
}

// session is a number that only the two ends of this TLS session know; nil without TLS.
func (s *socket) session() ([]byte, error) {
	if s.tls == nil {
		return nil, nil
	}
	st := s.tls.ConnectionState()
	return st.ExportKeyingMaterial("EXPORTER-covey-tcp", nil, 32)
}

// control writes a control frame and returns how many bytes of it went.
func (s *socket) control(k kind, generation uint64, from comm.Rank, payload []byte) (int, error) {
	var b [HeaderBytes]byte
	h := header{kind: k, generation: generation, from: from, length: len(payload), sum: crc32.Checksum(payload, castagnoli)}
	h.put(&b)
	return s.write(b[:], payload)
}

func (m *member) say(s *socket, self comm.Rank, h hello) error {
	_, err := s.control(kindHello, m.generation, self, h.encode())
	return err
}

// refusal is what the other side said before it hung up.
type refusal string

func (r refusal) Error() string { return string(r) }

// hear reads a hello frame. Nothing of a stranger's frame is believed before its length is.
func (s *socket) hear(stage byte, h *header, m *hello) error {
	var b [HeaderBytes]byte
	if err := s.next(&b, h); err != nil {
		return err
	}
	switch {
	case h.kind == kindGoodbye && stage == stageAnswer && h.length <= maxReason:
	case h.kind != kindHello:
		return &FrameError{"kind", uint64(h.kind), uint64(kindHello)}
	case h.length != helloBytes:
		return &FrameError{"length of a hello", uint64(h.length), helloBytes}
	}
	p := make([]byte, h.length)
	if _, err := io.ReadFull(s.buf, p); err != nil {
		return err
	}
	if sum := crc32.Checksum(p, castagnoli); sum != h.sum {
		return &FrameError{"payload checksum", uint64(h.sum), uint64(sum)}
	}
	if h.kind == kindGoodbye {
		return refusal(printable(p))
	}
	if m.decode(p); m.stage != stage {
		return &FrameError{"stage of a hello", uint64(m.stage), uint64(stage)}
	}
	return nil
}

// printable keeps another machine's words from playing tricks on a terminal or a log.
func printable(p []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(string(p), "?"))
}

func nonce() (n [nonceBytes]byte) {
	rand.Read(n[:]) // never fails: it would end the program
	return n
}

// call is the dialler's side of the handshake.
func (m *member) call(s *socket, self, to comm.Rank) error {
	session, err := s.session()
	if err != nil {
		return err
	}
	mine := hello{stage: stageCall, size: uint32(m.size), to: uint32(to), nonce: nonce()}
	if err := m.say(s, self, mine); err != nil {
		return err
	}
	var h header
	var theirs hello
	if err := s.hear(stageAnswer, &h, &theirs); err != nil {
		var r refusal
		if errors.As(err, &r) {
			return fmt.Errorf("%w: %w", ErrRefused, r)
		}
		return err
	}
	if h.from != to || h.generation != m.generation {
		return fmt.Errorf("%w: rank %d of generation %d answered", ErrRefused, h.from, h.generation)
	}
	want := m.proof("answer", self, to, &mine.nonce, &theirs.nonce, session)
	if !hmac.Equal(theirs.proof[:], want[:]) {
		return fmt.Errorf("%w: it does not hold this group's secret", ErrRefused)
	}
	last := hello{stage: stageProof, size: mine.size, to: mine.to,
		proof: m.proof("proof", self, to, &mine.nonce, &theirs.nonce, session)}
	return m.say(s, self, last)
}

// answer is the other side. It returns the dialler's rank, as the dialler says when err is not nil (-1: not even
// that). free tells whether that rank may still come.
func (m *member) answer(s *socket, self comm.Rank, free func(comm.Rank) error) (comm.Rank, error) {
	session, err := s.session()
	if err != nil {
		return -1, err
	}
	var h header
	var theirs, last hello
	if err := s.hear(stageCall, &h, &theirs); err != nil {
		return -1, err
	}
	refuse := func(format string, args ...any) (comm.Rank, error) {
		why := fmt.Sprintf(format, args...)
		s.control(kindGoodbye, m.generation, self, []byte(why)[:min(len(why), maxReason)])
		return h.from, errors.New(why)
	}
	switch {
	case h.generation != m.generation:
		return refuse("this is generation %d, the caller is of generation %d", m.generation, h.generation)
	case int(theirs.size) != m.size:
		return refuse("this group has %d ranks, the caller's has %d", m.size, theirs.size)
	case theirs.to != uint32(self):
		return refuse("this is rank %d, the caller wants rank %d", self, theirs.to)
	case h.from <= self || int(h.from) >= m.size:
		return refuse("rank %d does not call rank %d in a group of %d", h.from, self, m.size)
	}
	if err := free(h.from); err != nil {
		return refuse("%v", err)
	}
	mine := hello{stage: stageAnswer, size: uint32(m.size), to: uint32(h.from), nonce: nonce()}
	mine.proof = m.proof("answer", h.from, self, &theirs.nonce, &mine.nonce, session)
	if err := m.say(s, self, mine); err != nil {
		return h.from, err
	}
	var again header
	if err := s.hear(stageProof, &again, &last); err != nil {
		return h.from, fmt.Errorf("no proof of the secret: %w", err)
	}
	want := m.proof("proof", h.from, self, &theirs.nonce, &mine.nonce, session)
	if !hmac.Equal(last.proof[:], want[:]) || again.from != h.from || again.generation != h.generation {
		return h.from, errors.New("it does not hold this group's secret")
	}
	return h.from, nil
}
