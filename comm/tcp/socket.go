package tcp

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"
)

const (
	// readAhead is the reader's buffer: a short message costs one system call, and of a long one at most this much
	// is copied.
	readAhead = 8 << 10
	// recordBytes is the most plaintext that one TLS record carries.
	recordBytes = 16 << 10
)

// socket is one connection, plain or TLS, whose bytes are counted where they leave and enter. Its buffers are the
// system's own: Linux and others grow them with the network's delay, unless somebody sets a size.
type socket struct {
	tcp *net.TCPConn
	tls *tls.Conn     // nil without TLS
	buf *bufio.Reader // of what came

	raw *raw // the same connection once the program's own calls serve it: see serve; nil before and elsewhere

	sent, received, encrypted atomic.Int64

	pair   [2][]byte // header and payload for one gathering write
	vec    net.Buffers
	record []byte // the first TLS record of a frame
}

// cipher is the connection below TLS: what TLS writes is counted.
type cipher struct {
	*net.TCPConn
	n *atomic.Int64
}

func (c cipher) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// newSocket wraps a connection; wrap, when not nil, makes the TLS side of it.
func newSocket(c *net.TCPConn, wrap func(net.Conn) *tls.Conn) *socket {
	s := &socket{tcp: c}
	if wrap != nil {
		s.tls = wrap(cipher{c, &s.encrypted})
		s.record = make([]byte, recordBytes)
	}
	s.buf = bufio.NewReaderSize(plaintext{s}, readAhead)
	return s
}

// plaintext reads a socket and counts.
type plaintext struct{ s *socket }

func (r plaintext) Read(p []byte) (n int, err error) {
	switch {
	case r.s.raw != nil:
		n, err = r.s.raw.Read(p)
	case r.s.tls != nil:
		n, err = r.s.tls.Read(p)
	default:
		n, err = r.s.tcp.Read(p)
	}
	r.s.received.Add(int64(n))
	return n, err
}

// write writes head and body, without a copy unless TLS makes one anyway, and returns how much of them went. One
// goroutine writes at a time.
func (s *socket) write(head, body []byte) (n int, err error) {
	defer func() { s.sent.Add(int64(n)) }()
	switch {
	case s.raw != nil:
		return s.raw.write(head, body)
	case s.tls != nil: // the header shares the payload's first record
		k := copy(s.record, head)
		m := copy(s.record[k:], body)
		n, err = s.tls.Write(s.record[:k+m])
		if err != nil || m == len(body) {
			return n, err
		}
		k, err = s.tls.Write(body[m:])
		return n + k, err
	case len(body) == 0:
		return s.tcp.Write(head)
	}
	s.pair = [2][]byte{head, body}
	s.vec = s.pair[:]
	k, err := s.vec.WriteTo(s.tcp)
	s.pair = [2][]byte{}
	return int(k), err
}

// next reads a frame's header.
func (s *socket) next(b *[HeaderBytes]byte, h *header) error {
	if _, err := io.ReadFull(s.buf, b[:]); err != nil {
		return err
	}
	return h.parse(b)
}
