package shm

import (
	"fmt"
	"io"
	"math"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// makeFile makes an anonymous file of size bytes that can never change its size: a mapping of it cannot fault.
func makeFile(size int) (*os.File, error) {
	fd, err := unix.MemfdCreate("covey", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("covey", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "covey-shm")
	if err := f.Truncate(int64(size)); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func seal(f *os.File) error {
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("sealing the size: %w", err)
	}
	return nil
}

// Stat says what a file was made for. A file that Create did not make is an error.
func Stat(f *os.File) (Info, error) {
	l, err := readLayout(f)
	return l.Info, err
}

func readLayout(f *os.File) (layout, error) {
	st, err := f.Stat()
	if err != nil {
		return layout{}, fmt.Errorf("shm: %w", err)
	}
	b := make([]byte, arrivedAt)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return layout{}, fmt.Errorf("shm: reading the header of %s: %w", f.Name(), err)
	}
	l, err := parseHeader(b[:n], st.Size())
	if err != nil {
		return l, err
	}
	if got, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0); err != nil || got&unix.F_SEAL_SHRINK == 0 {
		return l, fmt.Errorf("shm: %s is not sealed: it could shrink under the workers; use the file that Create returned", f.Name())
	}
	return l, nil
}

// reopen opens the file behind f again. A descriptor that was inherited shares its locks with the whole family; a
// file opened anew has its own.
func reopen(f *os.File) (*os.File, error) {
	g, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("shm: opening the shared memory anew (needs /proc): %w", err)
	}
	return g, nil
}

// lock takes the lock of one byte, and tells whether it was free. The kernel drops it when the last descriptor and
// mapping of f go, however the process ends.
func lock(f *os.File, at int) (bool, error) {
	k := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(at), Len: 1}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &k)
	if err == unix.EAGAIN || err == unix.EACCES {
		return false, nil
	}
	return err == nil, err
}

// locked tells whether another holds the lock of one byte.
func locked(f *os.File, at int) bool {
	k := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(at), Len: 1}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &k)
	return err != nil || k.Type != unix.F_UNLCK
}

// addressSpace is how much a process may map.
func addressSpace() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_AS, &l) != nil || l.Cur > math.MaxInt {
		return math.MaxInt
	}
	return int(l.Cur)
}

// futexWait sleeps until word is no longer v, somebody wakes it, or d has passed, and tells whether it was for d; it
// may also return early.
func futexWait(word *atomic.Uint32, v uint32, d time.Duration) bool {
	ts := unix.NsecToTimespec(int64(d))
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWaitOp, uintptr(v), uintptr(unsafe.Pointer(&ts)), 0, 0)
	return errno == unix.ETIMEDOUT
}

// futexWake wakes whoever sleeps on word. It does not block, so the scheduler need not hear of it.
func futexWake(word *atomic.Uint32) {
	unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWakeOp, 1<<30, 0, 0, 0)
}

// The operations that work between processes (not the private ones).
const (
	futexWaitOp = 0
	futexWakeOp = 1
)

// giveWay lets another thread of this machine have the core.
func giveWay() { unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
