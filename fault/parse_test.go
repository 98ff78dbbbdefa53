package fault

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func mustParse(t testing.TB, text string) Script {
	t.Helper()
	s, err := Parse("f.txt", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParse(t *testing.T) {
	ranks := []int{0, 1, 2, 3, 7}
	step := func(n int) Moment { return Moment{Step: n} }
	at := func(d time.Duration) Moment { return Moment{Time: d} }
	for _, c := range []struct {
		text  string
		want  Fault
		print string // "": as it was
	}{
		{"kill 3 at step 120", Fault{Kind: Kill, Ranks: []int{3}, From: step(120)}, ""},
		{"kill {3} at 12s", Fault{Kind: Kill, Ranks: []int{3}, From: at(12 * time.Second)}, "kill 3 at 12s"},
		{"stop 2 at 10s for 5s", Fault{Kind: Stop, Ranks: []int{2}, From: at(10 * time.Second), To: at(15 * time.Second)}, ""},
		{"stop 2 from 10s to 15s", Fault{Kind: Stop, Ranks: []int{2}, From: at(10 * time.Second), To: at(15 * time.Second)}, "stop 2 at 10s for 5s"},
		{"stop 2 at step 5 for 3s", Fault{Kind: Stop, Ranks: []int{2}, From: step(5), For: 3 * time.Second}, ""},
		{"stop 2 at step 5", Fault{Kind: Stop, Ranks: []int{2}, From: step(5)}, ""},
		{"slow 2 x5 from 10s to 1m", Fault{Kind: Slow, Ranks: []int{2}, Factor: 5, From: at(10 * time.Second), To: at(time.Minute)}, ""},
		{"slow { 7, 0 - 3 } x1.5 from step 10 to step 40", Fault{Kind: Slow, Ranks: ranks, Factor: 1.5, From: step(10), To: step(40)}, "slow {0-3,7} x1.5 from step 10 to step 40"},
		{"slow 2 x5", Fault{Kind: Slow, Ranks: []int{2}, Factor: 5}, ""},
		{"slow 2 x5 to step 3", Fault{Kind: Slow, Ranks: []int{2}, Factor: 5, To: step(3)}, ""},
		{"partition {0-3} {4-7} at 30s for 20s", Fault{Kind: Partition, Ranks: []int{0, 1, 2, 3}, Others: []int{4, 5, 6, 7}, From: at(30 * time.Second), To: at(50 * time.Second)}, ""},
		{"partition 1 0 at step 4 for 1 step", Fault{Kind: Partition, Ranks: []int{1}, Others: []int{0}, From: step(4), To: step(5)}, ""},
		{"partition 1 0 at step 4 to step 6", Fault{Kind: Partition, Ranks: []int{1}, Others: []int{0}, From: step(4), To: step(6)}, "partition 1 0 at step 4 for 2 steps"},
		{"drop 1% on link a-b", Fault{Kind: Drop, Link: "a-b", Amount: 0.01}, ""},
		{"drop 0.3% on link a-b from 10s for 10s", Fault{Kind: Drop, Link: "a-b", Amount: 0.003, From: at(10 * time.Second), To: at(20 * time.Second)}, "drop 0.3% on link a-b from 10s to 20s"},
		{"delay 50ms on link rack0-core to 2h0m0s", Fault{Kind: Delay, Link: "rack0-core", Delay: 50 * time.Millisecond, To: at(2 * time.Hour)}, "delay 50ms on link rack0-core to 2h"},
		{"limit 10Mbit/s on link a-b", Fault{Kind: Limit, Link: "a-b", Amount: 1e7}, ""},
		{"limit 1.25MB/s on link a-b", Fault{Kind: Limit, Link: "a-b", Amount: 1e7}, "limit 10Mbit/s on link a-b"},
		{"limit 512bit/s on link a-b", Fault{Kind: Limit, Link: "a-b", Amount: 512}, ""},
		{"corrupt gradient of 5 sign-flip", Fault{Kind: Corrupt, Ranks: []int{5}, How: "sign-flip"}, ""},
		{"corrupt gradient of {0-3,7} scale:100.0 from step 3 to step 5", Fault{Kind: Corrupt, Ranks: ranks, How: "scale:100", From: step(3), To: step(5)}, "corrupt gradient of {0-3,7} scale:100 from step 3 to step 5"},
	} {
		s, err := Parse("f.txt", []byte("\n# a comment\n  "+c.text+"  # why\n"))
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		c.want.Line = 3
		if len(s) != 1 || !reflect.DeepEqual(s[0], c.want) {
			t.Errorf("%s: %+v", c.text, s)
		}
		if c.print == "" {
			c.print = c.text
		}
		if s[0].String() != c.print {
			t.Errorf("%s prints %q, want %q", c.text, s[0], c.print)
		}
	}
}

// Every mistake is told with its line and, where there is one, the nearest right choice.
func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"kil 3 at step 1":                             `unknown fault "kil": did you mean "kill"? (kill, stop, slow, partition, drop, delay, limit, corrupt)`,
		"kill":                                        `the line ends where a rank should be, as in "kill 3 at step 120"`,
		"kill 3":                                      `it does not say when, as in "kill 3 at step 120"`,
		"kill x at 1s":                                `"x" is not a rank`,
		"kill -1 at 1s":                               `"-1" is not a rank`,
		"kill {} at 1s":                               `"" is not a rank`,
		"kill 1000000 at 1s":                          `ranks are below 1000000`,
		"kill 0-3 at 1s":                              `more than one rank goes in braces: {0-3}`,
		"kill 0,3 at 1s":                              `more than one rank goes in braces: {0,3}`,
		"kill {3-0} at 1s":                            `the ranks 3-0 run backwards: write 0-3`,
		"kill {0-3,2} at 1s":                          `rank 2 stands twice in {0-3,2}`,
		"kill {0-3 at 1s":                             `no closing brace`,
		"kill 3 att 1s":                               `unknown word "att": did you mean "at"?`,
		"kill 3 at stpe 5":                            `unknown word "stpe": did you mean "step"?`,
		"kill 3 at step":                              `the line ends where the step's number should be`,
		"kill 3 at step 0":                            `steps are numbered from 1`,
		"kill 3 at step five":                         `"five" is not a step's number`,
		"kill 3 at 12":                                `the time 12 has no unit: write 12s or 12ms`,
		"kill 3 at noon":                              `"noon" is not a time such as 12s`,
		"kill 3 at -1s":                               `expected 0s to 87600h`,
		"kill 3 at 99999h":                            `expected 0s to 87600h`,
		"kill 3 at 1s for 2s":                         `a kill has no end: write "kill 3 at 1s"`,
		"kill 3 at 1s at 2s":                          `"at" says again what the line has said`,
		"stop 3 for 2s":                               `it does not say when, as in "stop 2 at 10s for 5s"`,
		"stop 3 at 1s for 0s":                         `which is no time`,
		"stop 3 at step 1 for 2 steps":                `a stopped worker comes to no step: give a time`,
		"stop 3 at 1s for 2 steps":                    `"for 2 steps" needs the step at which it begins`,
		"stop 3 at 5s to 4s":                          `it ends at 4s, which is not after 5s`,
		"stop 3 at 5s to 0s":                          `it ends before it begins`,
		"stop 3 at 1s for 2s to 3s":                   `both "to" and "for"`,
		"slow 2 5 from 1s":                            `"5" is not how many times slower, as in x5`,
		"slow 2 x":                                    `"x" is not how many times slower`,
		"slow 2 x0x1p3":                               `is not how many times slower`,
		"slow 2 xInf":                                 `is not how many times slower`,
		"slow 2 x1":                                   `x1: how many times slower is above 1`,
		"slow 2 x0.5":                                 `x0.5: how many times slower is above 1`,
		"slow 2 x5 from step 9 to step 9":             `it ends at step 9, which is not after step 9`,
		"slow 2 x5 from step 9 to 5s":                 `it begins at step 9 and ends at 5s: give both by step or both by time`,
		"slow 2 x5 from 5s to step 9":                 `it begins at 5s and ends at step 9`,
		"partition {0-3} at 1s":                       `"at" is not a rank`,
		"partition {0-3} {3-5} at 1s":                 `rank 3 is on both sides`,
		"drop 1 on link a-b":                          `"1" is not a share of packets such as 1%`,
		"drop 0% on link a-b":                         `above 0% and up to 100%`,
		"drop 101% on link a-b":                       `above 0% and up to 100%`,
		"drop NaN% on link a-b":                       `above 0% and up to 100%`,
		"drop 1% on lnik a-b":                         `unknown word "lnik": did you mean "link"?`,
		"drop 1% link a-b":                            `"link" stands where "on" should be, as in "drop 1% on link a-b"`,
		"drop 1% on link":                             `the line ends where the link's name should be`,
		"drop 1% on link {a}":                         `"{a}" is not the name of a link`,
		"drop 1% on link a-b at step 3":               `a link knows no steps`,
		"delay 0s on link a-b":                        `a delay of 0s changes nothing`,
		"limit 0Mbit/s on link a-b":                   `lets nothing through: write drop 100%`,
		"limit 10Mbits on link a-b":                   `unknown unit "Mbits": did you mean "Mbit/s"?`,
		"limit 10 on link a-b":                        `"10" is not a bandwidth such as 10Mbit/s`,
		"limit 1e9Gbit/s on link a-b":                 `expected 1bit/s to 100000Gbit/s`,
		"limit -1Mbit/s on link a-b":                  `expected 1bit/s`,
		"corrupt gradeint of 5 zero":                  `unknown word "gradeint": did you mean "gradient"?`,
		"corrupt gradient of 5":                       `the line ends where what becomes of the gradient should be`,
		"corrupt gradient of 5 signflip":              `unknown corruption "signflip": did you mean "sign-flip"? (sign-flip, zero, scale, noise, nan)`,
		"corrupt gradient of 5 scale":                 `scale needs a number, as in scale:100`,
		"corrupt gradient of 5 scale:x":               `scale is "x", expected a number`,
		"corrupt gradient of 5 noise:-1":              `noise:-1 is out of range`,
		"corrupt gradient of 5 scale:1e300":           `out of range`,
		"corrupt gradient of 5 nan:3":                 `nan: does not take the value "3"`,
		"corrupt gradient of 5 nan from 10s":          `must not depend on time`,
		"slow " + strings.Repeat("2", 2000) + " x5":   `a word of 2000 bytes stands where a rank should be`,
		"slow {" + strings.Repeat("2", 2000) + "} x5": `222..." is not a rank`,
		"drop 1% on link " + strings.Repeat("a", 201): `is not the name of a link`,
	} {
		_, err := Parse("f.txt", []byte("# first\n\n"+text))
		if err == nil || !strings.HasPrefix(err.Error(), "f.txt:3: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant f.txt:3: ... %s", clip(text), err, want)
		}
	}
}

func TestParseIsBounded(t *testing.T) {
	for want, text := range map[string]string{
		"f.txt: more than 1048576 bytes":                          strings.Repeat(" ", 1<<20+1),
		"f.txt: not a text file in UTF-8":                         "kill 3 \xff",
		"f.txt:100001: more than 100000 faults":                   strings.Repeat("slow 1 x2\n", 100_001)[:1_000_009],
		"f.txt:5: the script names more than 4000000 ranks":       strings.Repeat("kill {0-999999} at 1s\n", 5),
		"f.txt:1: the script names more than 4000000 ranks":       "kill {" + strings.Repeat("0-999999,", 1000) + "1} at 1s",
		"f.txt:1: rank 5 stands twice in {0-9,5}":                 "slow {0-9,5} x2",
		"f.txt:2: unknown fault \"\\x00\" (kill, stop, slow, par": "\n\x00",
	} {
		if _, err := Parse("f.txt", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if s, err := Parse("f.txt", nil); err != nil || len(s) != 0 {
		t.Errorf("an empty script: %v, %v", s, err)
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "faults.txt")
	if err := os.WriteFile(path, []byte("kill 1 at step 2\r\nstop 0 at 1s\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Load(path); err != nil || s.String() != "kill 1 at step 2\nstop 0 at 1s\n" {
		t.Errorf("%v, %v", s, err)
	}
	wrong := filepath.Join(filepath.Dir(path), "fautls.txt")
	if _, err := Load(wrong); err == nil || !strings.Contains(err.Error(), "did you mean "+path+"?") {
		t.Errorf("a wrong name: %v", err)
	}
}

// drawFault draws any valid fault, of numbers that are not round.
func drawFault(t *rapid.T) Fault {
	f := Fault{Kind: Kind(rapid.IntRange(0, len(kinds)-1).Draw(t, "kind"))}
	ranks := rapid.SliceOfNDistinct(rapid.IntRange(0, maxRank-1), 2, 12, rapid.ID).Draw(t, "ranks")
	if rapid.Bool().Draw(t, "runs") {
		for i := range ranks {
			ranks[i] = ranks[0]%1000 + i
		}
	}
	cut := rapid.IntRange(1, len(ranks)-1).Draw(t, "cut")
	f.Ranks = slices.Sorted(slices.Values(ranks[:cut]))
	switch f.Kind {
	case Slow:
		f.Factor = rapid.Float64Range(1.0000001, maxFactor).Draw(t, "factor")
	case Partition:
		f.Others = slices.Sorted(slices.Values(ranks[cut:]))
	case Drop:
		f.Amount = rapid.Float64Range(5e-324, 1).Draw(t, "share")
	case Delay:
		f.Delay = time.Duration(rapid.Int64Range(1, int64(maxTime)).Draw(t, "delay"))
	case Limit:
		f.Amount = rapid.Float64Range(1, maxRate).Draw(t, "rate")
	case Corrupt:
		c := corruption{name: rapid.SampledFrom([]string{"sign-flip", "zero", "scale", "noise", "nan"}).Draw(t, "how")}
		c.amount = rapid.Float64Range(1e-300, 1e30).Draw(t, "amount")
		f.How = c.String()
	}
	if f.Kind.OnLink() {
		f.Ranks, f.Link = nil, rapid.StringMatching(`[a-zé*:/._-]{1,20}`).Draw(t, "link")
	}
	steps := f.Kind == Corrupt || !f.Kind.OnLink() && rapid.Bool().Draw(t, "by step")
	draw := func(what string, lo int64) Moment {
		if steps {
			return Moment{Step: int(rapid.Int64Range(lo+1, maxStep).Draw(t, what))}
		}
		return Moment{Time: time.Duration(rapid.Int64Range(lo, int64(maxTime)).Draw(t, what))}
	}
	if f.Kind.timed() != always || rapid.Bool().Draw(t, "begins") {
		f.From = draw("from", 0)
	}
	if f.Kind == Kill || !rapid.Bool().Draw(t, "ends") {
		return f
	}
	if f.From.Step > 0 && f.Kind != Corrupt && rapid.Bool().Draw(t, "for") {
		f.For = time.Duration(rapid.Int64Range(1, int64(maxTime)).Draw(t, "length"))
	} else if int64(f.From.Step) < maxStep && f.From.Time < maxTime && !(f.Kind == Stop && steps) {
		f.To = draw("to", max(int64(f.From.Step), int64(f.From.Time)+1))
	}
	return f
}

func TestPrintsWhatParses(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := Script(rapid.SliceOfN(rapid.Custom(drawFault), 1, 5).Draw(rt, "script"))
		for i := range s {
			s[i].Line = i + 1
			if err := s[i].valid(); err != nil {
				rt.Fatalf("%v: %v", s[i], err)
			}
		}
		got, err := Parse("f.txt", []byte(s.String()))
		if err != nil {
			rt.Fatal(err)
		}
		if !reflect.DeepEqual(got, s) {
			rt.Fatalf("printed as\n%sread as\n%+v\nwas\n%+v", s, got, s)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, eg := range examples {
		f.Add([]byte(eg))
	}
	f.Add([]byte("slow {0-3, 7} x2 from step 10 for 3 steps # why\r\nstop 2 at step 5 for 3s\n"))
	f.Add([]byte("drop 1e-7% on link a from 1ns to 1m0.5s\nlimit 3.3kB/s on link b"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse("f.txt", text)
		if err != nil {
			if s != nil || !strings.HasPrefix(err.Error(), "f.txt:") {
				t.Fatalf("%v beside %v", err, s)
			}
			return
		}
		for i := range s {
			if err := s[i].valid(); err != nil {
				t.Fatalf("%v was let through: %v", s[i], err)
			}
		}
		again, err := Parse("f.txt", []byte(s.String()))
		if err != nil && len(s.String()) <= maxText {
			t.Fatalf("%q prints as %q: %v", text, s, err)
		}
		for i := range again {
			again[i].Line = s[i].Line
		}
		if err == nil && len(s)+len(again) > 0 && !reflect.DeepEqual(again, s) {
			t.Fatalf("%q prints as %q, read as %+v", text, s, again)
		}
	})
}
