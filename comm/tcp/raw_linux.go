package tcp

import (
	"io"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// raw is a connection taken from Go's runtime: its calls never block, and whoever needs it waits for it himself. So a
// message costs no switch of goroutines, and the runtime's poller is not woken for what a program reads anyway.
type raw struct {
	fd    int
	wait  func() error // called by write when nothing more can be written; its error ends the write
	iov   [2]unix.Iovec
	short bool // a read found less than it asked for: the next would most likely find nothing
}

// newRaw takes a connection over. It returns nil, and leaves c as it is, when the system does not let it.
func newRaw(c *net.TCPConn) *raw {
	rc, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	fd := -1
	if err := rc.Control(func(was uintptr) { fd, _ = unix.FcntlInt(was, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || fd < 0 {
		return nil
	}
	c.Close() // and with it its place in the runtime's poller; the copy keeps the connection
	return &raw{fd: fd}
}

// Read implements io.Reader. It returns errAgain when nothing is there and, once after a read that was cut short, when
// nothing was there a moment ago.
func (r *raw) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.short {
		r.short = false
		return 0, errAgain
	}
	for {
		n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(r.fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch {
		case e == unix.EINTR:
			continue
		case e == unix.EAGAIN:
			return 0, errAgain
		case e != 0:
			return 0, e
		case n == 0:
			return 0, io.EOF
		}
		r.short = int(n) < len(p)
		return int(n), nil
	}
}

// write writes head and body by as few calls as the socket's buffer allows, and returns how much of them went.
func (r *raw) write(head, body []byte) (n int, err error) {
	for total := len(head) + len(body); n < total; {
		k := r.put(head[min(n, len(head)):], body[max(0, n-len(head)):])
		switch {
		case k >= 0:
			n += k
			continue
		case -k == int(unix.EINTR):
			continue
		case -k != int(unix.EAGAIN):
			return n, unix.Errno(-k)
		}
		if err := r.wait(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// put is one writev: it returns the bytes that went, or the error's number below zero.
func (r *raw) put(head, body []byte) int {
	v := r.iov[:0]
	for _, p := range [2][]byte{head, body} {
		if len(p) > 0 {
			v = append(v, unix.Iovec{Base: &p[0]})
			v[len(v)-1].SetLen(len(p))
		}
	}
	n, _, e := unix.RawSyscall(unix.SYS_WRITEV, uintptr(r.fd), uintptr(unsafe.Pointer(&r.iov[0])), uintptr(len(v)))
	r.iov = [2]unix.Iovec{}
	if e != 0 {
		return -int(e)
	}
	return int(n)
}

const (
	// sendBuffer is what restrain lets a socket hold that its peer has not read; the system doubles it for its own
	// needs. More than this is not granted everywhere (net.core.wmem_max).
	sendBuffer = 200 << 10
	// receiveBuffer is the room for what has come that a socket begins with.
	receiveBuffer = 2 << 20
)

// restrain keeps the writer near its reader, and its reader's window open. The system's own send buffer lets a writer run
// megabytes ahead, and what the kernel copies to are then pages that are in no cache; its receive buffer begins at 128
// KiB and may never grow, since it does so as the sender is seen to fill it. It works without either, too.
func (r *raw) restrain() {
	unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	// A low-water mark makes room for itself, beyond what SO_RCVBUF may ask for, and the room stays.
	unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, receiveBuffer)
	unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1)
}

// end ends both directions at once: whoever waits for the socket is woken.
func (r *raw) end() { unix.Shutdown(r.fd, unix.SHUT_RDWR) }

// endWriting ends this side's direction after what was written.
func (r *raw) endWriting() { unix.Shutdown(r.fd, unix.SHUT_WR) }

// close gives the descriptor back. Nobody uses it any more.
func (r *raw) close() { unix.Close(r.fd) }
