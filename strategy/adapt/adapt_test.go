package adapt

import (
	"strings"
	"testing"
)

// A network whose speed changes: each arm's step takes its computation and its bytes. The bandit uses the arm that is best
// at the time for most of the steps, finds the new one soon after a change, and says why.
func TestBanditFollowsTheNetwork(t *testing.T) {
	names := []string{"none", "bf16", "topk"}
	bytes := []float64{400e3, 200e3, 8e3}
	price := []float64{1, 1.1, 1.25}
	b := NewBandit(price)
	best := func(rate float64) (arm int) {
		least := 0.0
		for i, n := range bytes {
			if c := price[i] * (0.010 + n/rate); i == 0 || c < least {
				arm, least = i, c
			}
		}
		return arm
	}
	said := map[string]int{}
	for _, rate := range []float64{1e9, 10e6, 1e9} { // bytes a second: on one machine, 80 Mbit/s, and back
		want, right, late := best(rate), 0, 0
		const windows = 400
		for i := range windows {
			arm := b.Arm()
			if arm == want {
				right++
			}
			if i >= windows/2 && arm == want {
				late++
			}
			noise := 1 + 0.02*float64(i*7%5-2)
			next, why := b.Observe(noise*(0.010+bytes[arm]/rate), names)
			if next != b.Arm() || why == "" {
				t.Fatalf("%d, %q", next, why)
			}
			said[why[strings.LastIndexAny(why, ";,")+1:]]++
		}
		if right < windows/2 || late < windows/2*8/10 {
			t.Errorf("at %g bytes a second %s was used in %d of %d windows, %d of them in the second half", rate, names[want], right, windows, late)
		}
	}
	if said[" topk is not measured yet"] != 1 {
		t.Errorf("reasons: %v", said)
	}
}

// Two that are told the same choose the same.
func TestBanditIsAFunction(t *testing.T) {
	a, b := NewBandit([]float64{1, 1.1}), NewBandit([]float64{1, 1.1})
	for i := range 100 {
		s := 0.001 * float64(1+i*i%7)
		x, why := a.Observe(s, []string{"x", "y"})
		y, also := b.Observe(s, []string{"x", "y"})
		if x != y || why != also {
			t.Fatalf("step %d: %d and %d", i, x, y)
		}
	}
}

func TestParseArms(t *testing.T) {
	arms, err := ParseArms("none; topk:ratio=0.01+ef K=4 bucket=1MiB price=1.5")
	if err != nil || len(arms) != 2 || arms[1] != (Arm{"topk:ratio=0.01+ef", 4, 1 << 20, 1.5}) {
		t.Errorf("%+v, %v", arms, err)
	}
	if _, err := ParseArms("auto"); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"none":               "leaves nothing to choose",
		"none; topkk":        `did you mean "topk"`,
		"none;":              "an empty arm",
		"none; bf16 k=3":     `did you mean "K"`,
		"none; bf16 K=0":     "at least 1",
		"none; bf16 price=0": "above 0",
		"none; dgc:0.01":     "another size",
		"none; vote":         "another size",
	} {
		if _, err := ParseArms(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
