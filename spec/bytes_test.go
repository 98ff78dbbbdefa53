package spec

import (
	"strings"
	"testing"
)

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{"0": 0, "65536": 1 << 16, "64KiB": 1 << 16, "3MiB": 3 << 20, "2 GiB": 2 << 30, "1048576GiB": 1 << 50} {
		got, err := ParseBytes(text)
		if err != nil || got != want {
			t.Errorf("%s is %d, %v", text, got, err)
		}
		if again, err := ParseBytes(got.String()); err != nil || again != got {
			t.Errorf("%d prints as %v, which is %d, %v", got, got, again, err)
		}
	}
	if s := Bytes(1 << 16).String(); s != "64KiB" {
		t.Errorf("65536 bytes print as %s", s)
	}
	for _, text := range []string{"", "-1", "1.5MiB", "64KB", "1048577GiB", "9999999999999999999"} {
		if n, err := ParseBytes(text); err == nil || !strings.Contains(err.Error(), "such as 65536, 64KiB or 1MiB") {
			t.Errorf("%q is %d, %v", text, n, err)
		}
	}
}

func TestBytesOfAChoice(t *testing.T) {
	s, err := Parse("x:64KiB,most=5")
	if err != nil {
		t.Fatal(err)
	}
	if a, b, c := s.Bytes("least", 1), s.Bytes("most", 2), s.Bytes("none", 3); a != 1<<16 || b != 5 || c != 3 || s.Done() != nil {
		t.Errorf("%d, %d, %d, %v", a, b, c, s.Done())
	}
	s, _ = Parse("x:64KB")
	s.Bytes("least", 1)
	if err := s.Done(); err == nil || err.Error() != `x: least is "64KB", expected bytes such as 65536 or 64KiB` {
		t.Error(err)
	}
}
