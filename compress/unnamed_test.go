package compress

import (
	"strings"
	"testing"

	"github.com/covey-ml/covey/spec"
)

// A value without a name is what people mean by it.
func TestUnnamedValues(t *testing.T) {
	for text, want := range map[string]string{
		"qsgd:64":         "qsgd:levels=64",
		"qsgd:15,elias":   "qsgd:levels=15,code=elias",
		"uniform:4":       "uniform:bits=4",
		"uniform:8,64":    "uniform:bits=8,bucket=64",
		"random:4":        "random:bits=4",
		"terngrad:2.5":    "terngrad:clip=2.5",
		"onebit:64":       "onebit:bucket=64",
		"sign:64":         "sign:bucket=64",
		"float:5,2":       "float:exponent=5,mantissa=2",
		"float:4":         "float:exponent=4,mantissa=3",
		"topk:0.1":        "topk:0.1",
		"topk:0.1,bf16":   "topk:0.1,values=bf16",
		"randomk:0.1":     "randomk:0.1",
		"bernoulli:0.1":   "bernoulli:0.1",
		"threshold:0.1":   "threshold:0.1",
		"adaptive:0.9":    "adaptive:energy=0.9",
		"uniform:12":      "! bits is 12",
		"float:8":         "! exponent is 8",
		"adaptive:512":    "! bytes=64KiB",
		"adaptive:big":    "! 64KiB",
		"topk:500":        "! k=500",
		"randomk:500":     "! k=500",
		"adaptive:64KiB":  "adaptive:bytes=64KiB",
		"terngrad:512":    "! bucket=512",
		"natural:9":       `! does not take the value "9"`,
		"fp16:16":         `! does not take the value "16"`,
		"identity:1":      `! does not take the value "1"`,
		"bernoulli:50":    "! p is 50",
		"threshold:-1":    "! t is -1",
		"qsgd:elias,15":   "! whole number",
		"adaptive:1.5":    "! energy is 1.5",
		"threshold:false": "! t is",
	} {
		s, err := spec.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		c, err := New(s)
		if wrong, bad := strings.CutPrefix(want, "! "); bad {
			if err == nil || !strings.Contains(err.Error(), wrong) {
				t.Errorf("%s: %v, expected an error with %q", text, err, wrong)
			}
		} else if err != nil || c.String() != want {
			t.Errorf("%s: %v, %v, expected %s", text, c, err, want)
		}
	}
}
