package spec

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes is a number of bytes, written as 64KiB, 1MiB or plain bytes.
type Bytes int64

// String writes the largest unit that divides the number.
func (b Bytes) String() string {
	for _, u := range units {
		if b >= u.n && b%u.n == 0 {
			return fmt.Sprintf("%d%s", b/u.n, u.name)
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

var units = []struct {
	name string
	n    Bytes
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// ParseBytes reads what String writes: 65536, 64KiB or 1MiB, up to 2^50.
func ParseBytes(text string) (Bytes, error) {
	mul := Bytes(1)
	num := text
	for _, u := range units {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			num, mul = rest, u.n
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(num), 10, 64)
	if err != nil || n < 0 || n > 1<<50/int64(mul) {
		return 0, fmt.Errorf("%q is not a size such as 65536, 64KiB or 1MiB", text)
	}
	return Bytes(n) * mul, nil
}

// Bytes takes a number of bytes as Int does.
func (s *Spec) Bytes(key string, def Bytes) Bytes {
	v, ok := s.take(key)
	if !ok {
		return def
	}
	n, err := ParseBytes(v)
	if err != nil {
		s.fail(key, v, "bytes such as 65536 or 64KiB")
	}
	return n
}
