package spec

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestParseAndPrint(t *testing.T) {
	for text, want := range map[string]Spec{
		"adam":                    {Name: "adam", Opts: map[string]string{}},
		"mlp:128,64":              {Name: "mlp", Args: []string{"128", "64"}, Opts: map[string]string{}},
		"ps:mode=ssp,servers=2":   {Name: "ps", Opts: map[string]string{"servers": "2", "mode": "ssp"}},
		"mlp:128,activation=gelu": {Name: "mlp", Args: []string{"128"}, Opts: map[string]string{"activation": "gelu"}},
	} {
		got, err := Parse(text)
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("Parse(%q) = %+v, %v", text, got, err)
		} else if got.String() != text {
			t.Errorf("Parse(%q) prints %q", text, got)
		}
	}
	for text, want := range map[string]string{
		"":              "expected a name",
		":3":            "expected a name",
		"mlp:":          "empty value",
		"mlp:1,,2":      "empty value",
		"ps:a=1,b=2,a=": "a is given twice",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q): error %v, want %s", text, err, want)
		}
	}
}

func TestTaking(t *testing.T) {
	parse := func(text string) *Spec {
		s, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := parse("x:0.5,7,on=true,mode=slow")
	if p, k, on, mode := s.Float("p", 1), s.Int("k", 1), s.Bool("on", false), s.Word("mode", "fast", "fast", "slow"); p != 0.5 || k != 7 || !on || mode != "slow" {
		t.Errorf("took %v %v %v %v", p, k, on, mode)
	}
	s = parse("x:10Mbit/s,down=1:2")
	if up, down := s.Text("up", "a"), s.Text("down", "b"); up != "10Mbit/s" || down != "1:2" || s.Text("absent", "c") != "c" || s.Done() != nil {
		t.Errorf("took %q %q, %v", up, down, s.Done())
	}
	if s.Int("absent", 9) != 9 || s.Done() != nil {
		t.Errorf("default or Done: %v", s.Done())
	}
	for text, want := range map[string]string{
		"x:k=seven":    `x: k is "seven", expected a whole number`,
		"x:kk=7":       `x: unknown parameter "kk": did you mean "k"? (k, mode)`,
		"x:1,2":        `x: does not take the value "2"`,
		"x:mode=fsat":  `x: unknown mode "fsat": did you mean "fast"? (fast, slow)`,
		"x:k=1,zzzz=1": `x: unknown parameter "zzzz" (k, mode)`,
	} {
		s := parse(text)
		s.Int("k", 0)
		if s.Given("mode") {
			s.Word("mode", "fast", "fast", "slow")
		} else {
			s.take("mode")
		}
		if text == "x:1,2" {
			s.args = 1 // mode has a name; only k takes an unnamed value here
		}
		if err := s.Done(); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
	}
}

func TestNearest(t *testing.T) {
	choices := []string{"mlp", "linear", "logistic", "lasso", "softmax"}
	for word, want := range map[string]string{"mpl": "mlp", "logisitc": "logistic", "log": "logistic", "Linear": "linear", "zebra": "", "": "", "ridge": ""} {
		if got := Nearest(word, choices); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func ExampleParse() {
	s, _ := Parse("ps:servers=2,mode=ssp")
	fmt.Println(s.Name, s.Int("servers", 1), s.Word("mode", "bsp", "bsp", "ssp"), s.Int("staleness", 4), s.Done())
	// Output: ps 2 ssp 4 <nil>
}

func ExampleOneOf() {
	fmt.Println(OneOf("model", "mpl", "mlp", "linear"))
	// Output: unknown model "mpl": did you mean "mlp"? (mlp, linear)
}
