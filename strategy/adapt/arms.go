package adapt

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/spec"
)

// Arm is one way to talk.
type Arm struct {
	Compress string  // as reduce.ParseRules reads it
	Period   int     // steps between exchanges, for strategies that need not talk in every step; 0: theirs
	Bucket   int     // bytes reduced in one go; 0: all at once
	Price    float64 // how many steps it takes to learn as much as one exact step teaches
}

// String is the arm as ParseArms reads it.
func (a Arm) String() string {
	s := a.Compress
	if a.Period > 0 {
		s += fmt.Sprintf(" K=%d", a.Period)
	}
	if a.Bucket > 0 {
		s += fmt.Sprintf(" bucket=%v", spec.Bytes(a.Bucket))
	}
	return s
}

// Auto are the arms that are stood for by the word auto. Their prices are rounded up from docs/compression.md's table: what
// these compressors cost in steps.
const Auto = "none; none bucket=256KiB; bf16 price=1.02; powersgd:4+ef price=1.1; topk:0.01+ef price=1.2"

// ParseArms reads arms, as in "none; bf16; topk:0.01+ef K=4 bucket=1MiB price=1.2", or auto.
func ParseArms(text string) ([]Arm, error) {
	if strings.TrimSpace(text) == "auto" {
		text = Auto
	}
	var arms []Arm
	for _, part := range strings.Split(text, ";") {
		fields := strings.Fields(part)
		if len(fields) == 0 {
			return nil, fmt.Errorf("%q: an empty arm: expected auto, or arms such as none; topk:0.01+ef price=1.2", text)
		}
		a := Arm{Compress: fields[0], Price: 1}
		rules, err := reduce.ParseRules(a.Compress)
		if err != nil {
			return nil, err
		}
		if own := rules.Momentum() + rules.Signs(); own != "" {
			return nil, fmt.Errorf("%s: its steps are of another size than those of exact sums, so one rate does not suit both: leave it out", own)
		}
		if rules.Hosts {
			return nil, fmt.Errorf("%s: +hosts is not for arms: leave it out", a.Compress)
		}
		for _, f := range fields[1:] {
			key, value, _ := strings.Cut(f, "=")
			switch key {
			case "K":
				a.Period, err = strconv.Atoi(value)
				if err == nil && a.Period < 1 {
					err = errors.New("at least 1")
				}
			case "bucket":
				var n spec.Bytes
				n, err = spec.ParseBytes(value)
				a.Bucket = int(n)
			case "price":
				a.Price, err = strconv.ParseFloat(value, 64)
				if err == nil && !(a.Price > 0 && a.Price < 1e6) {
					err = errors.New("above 0")
				}
			default:
				err = spec.OneOf("parameter", key, "K", "bucket", "price")
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", strings.TrimSpace(part), f, err)
			}
		}
		arms = append(arms, a)
	}
	if len(arms) < 2 {
		return nil, fmt.Errorf("%q: one arm leaves nothing to choose: give compress itself, or more arms", text)
	}
	return arms, nil
}
