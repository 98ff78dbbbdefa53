// Package profile knows models by their costs alone: the sizes of their segments and the floating-point operations of each,
// worked out layer by layer from the published architectures or read from a file. It computes nothing, so a profile trains
// only where nothing is computed: in covey sim --timing, which asks what a step of ResNet-50 on a thousand workers would
// take.
//
//	m, err := profile.New("resnet50", 0)             // a built-in one
//	m, err = profile.New("bert-base", 512)           // with 512 tokens a sample
//	m, err = profile.Load("mine.yaml")               // a file: see Parse
//
// Operations are those of products, two for each multiplication and addition, as publications count them. What passes over
// memory (normalisation, activations, pooling) is not in them: calibrate the machine's FLOP/s by a measured throughput of
// the same model, and it is in that.
package profile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/spec"
)

// ErrNoNumbers is what Grad and Eval of a Profile return.
var ErrNoNumbers = errors.New("is known by its costs alone, and has no numbers to compute: only covey sim --timing runs it")

// Profile is a model.Model without numbers, which is model.Costed. It is immutable and safe for concurrent use.
type Profile struct {
	name   string
	layout model.Layout
	ahead  int64   // FLOPs of the forward pass, a sample
	back   []int64 // of the way back, by segment
}

var (
	_ model.Model  = (*Profile)(nil)
	_ model.Costed = (*Profile)(nil)
)

// network is a built-in profile.
type network struct {
	name, help string
	sequence   int // tokens of a sample when nobody says; 0: samples are images
	most       int // tokens that it has positions for
	build      func(b *builder, tokens int)
}

var networks = []network{
	{"vgg16", "138.4M parameters, images of 224x224", 0, 0, vgg16},
	{"resnet50", "25.6M parameters, images of 224x224", 0, 0, func(b *builder, _ int) { resnet(b, 3, 4, 6, 3) }},
	{"resnet101", "44.5M parameters, images of 224x224", 0, 0, func(b *builder, _ int) { resnet(b, 3, 4, 23, 3) }},
	{"inceptionv3", "23.8M parameters, images of 299x299, without the auxiliary head", 0, 0, inceptionV3},
	{"bert-base", "109.5M parameters, 128 tokens", 128, 512, bertBase},
	{"gpt2-small", "124.4M parameters, 1024 tokens", 1024, 1024, gpt2Small},
}

// Names lists the built-in profiles.
func Names() []string {
	names := make([]string, len(networks))
	for i, n := range networks {
		names[i] = n.name
	}
	return names
}

// New returns a built-in profile. tokens is the length of a sample of those that read text; 0 is their default. The error
// names the nearest.
func New(name string, tokens int) (*Profile, error) {
	i := slices.IndexFunc(networks, func(n network) bool { return n.name == name })
	if i < 0 {
		return nil, fmt.Errorf("%w, or a file such as mine.yaml", spec.OneOf("profile", name, Names()...))
	}
	n := networks[i]
	switch {
	case tokens == 0:
		tokens = n.sequence
	case n.sequence == 0:
		return nil, fmt.Errorf("profile %s: its samples are images, and have no sequence", name)
	case tokens < 1 || tokens > n.most:
		return nil, fmt.Errorf("profile %s: a sequence of %d tokens: expected 1 to %d", name, tokens, n.most)
	}
	b := &builder{}
	n.build(b, tokens)
	return b.profile(name), nil
}

// IsFile tells whether a job that names a profile means a file.
func IsFile(name string) bool { return strings.ContainsAny(name, `./\`) }

// String is the profile's name.
func (p *Profile) String() string { return p.name }

// Layout implements model.Model.
func (p *Profile) Layout() model.Layout { return p.layout }

// Init leaves x as it is: there are no numbers.
func (p *Profile) Init([]float32, uint64) {}

// Grad returns ErrNoNumbers.
func (p *Profile) Grad(context.Context, []float32, []float32, *data.Batch, func(model.Segment)) (model.Loss, error) {
	return model.Loss{}, p.refuse()
}

// Eval returns ErrNoNumbers.
func (p *Profile) Eval(context.Context, []float32, *data.Batch) (model.Metrics, error) {
	return model.Metrics{}, p.refuse()
}

func (p *Profile) refuse() error { return fmt.Errorf("the model profile:%s %w", p.name, ErrNoNumbers) }

// FLOPs implements model.Costed.
func (p *Profile) FLOPs(n int) int64 {
	sum := p.ahead
	for _, f := range p.back {
		sum += f
	}
	return int64(n) * sum
}

// Forward implements model.Costed.
func (p *Profile) Forward(n int) int64 { return int64(n) * p.ahead }

// Backward implements model.Costed.
func (p *Profile) Backward(n, i int) int64 { return int64(n) * p.back[i] }

// builder puts a profile together in the order of the forward pass.
type builder struct {
	layout model.Layout
	ahead  int64
	back   []int64
}

// add adds a segment whose product takes so many multiplications forward. The way back takes two such products, one for
// the gradient of the parameters and one for that of what went in, of which the first of all layers needs no second.
func (b *builder) add(name string, macs int64, shape ...int) {
	back := 4 * macs
	if len(b.layout) == 0 {
		back = 2 * macs
	}
	b.layout = b.layout.Add(name, shape...)
	b.ahead += 2 * macs
	b.back = append(b.back, back)
}

// product adds a product without parameters of its own. On the way back it comes before the segment that was added last,
// and twice.
func (b *builder) product(macs int64) {
	b.ahead += 2 * macs
	b.back[len(b.back)-1] += 4 * macs
}

func (b *builder) profile(name string) *Profile {
	return &Profile{name: name, layout: b.layout, ahead: b.ahead, back: b.back}
}

// dense adds a fully connected layer that is applied to so many rows of a sample.
func (b *builder) dense(name string, rows, in, out int) {
	b.add(name+".weight", int64(rows)*int64(in)*int64(out), out, in)
	b.add(name+".bias", 0, out)
}
