package profile

import "fmt"

// plane is what goes from layer to layer of a convolutional network: channels of height x width.
type plane struct{ channels, height, width int }

// after is the plane's size after a window of h x w moves over it by stride, with so much padding at each side.
func (p plane) after(channels, h, w, stride, padH, padW int) plane {
	return plane{channels, (p.height+2*padH-h)/stride + 1, (p.width+2*padW-w)/stride + 1}
}

// pool is a window of size x size without padding.
func (p plane) pool(size, stride int) plane { return p.after(p.channels, size, size, stride, 0, 0) }

// kernel is a convolution's window.
type kernel struct{ h, w, stride, padH, padW int }

// square is a kernel that keeps the plane's size when stride is 1.
func square(size, stride int) kernel { return kernel{size, size, stride, size / 2, size / 2} }

// valid is a kernel without padding.
func valid(size, stride int) kernel { return kernel{h: size, w: size, stride: stride} }

// conv adds a convolution's weights and returns what comes out.
func (b *builder) conv(name string, in plane, channels int, k kernel) plane {
	out := in.after(channels, k.h, k.w, k.stride, k.padH, k.padW)
	each := int64(in.channels) * int64(k.h) * int64(k.w)
	b.add(name+".weight", each*int64(channels)*int64(out.height)*int64(out.width), channels, in.channels, k.h, k.w)
	return out
}

// norm adds a batch normalisation's scale and shift. Its running statistics are not learned, and workers keep their own.
func (b *builder) norm(name string, channels int) {
	b.add(name+".weight", 0, channels)
	b.add(name+".bias", 0, channels)
}

// convNorm is a convolution without bias, normalised.
func (b *builder) convNorm(name string, in plane, channels int, k kernel) plane {
	out := b.conv(name+".conv", in, channels, k)
	b.norm(name+".bn", channels)
	return out
}

// vgg16 is configuration D of Simonyan and Zisserman (arXiv 1409.1556, table 1).
func vgg16(b *builder, _ int) {
	x := plane{3, 224, 224}
	i := 0
	for _, block := range [][]int{{64, 64}, {128, 128}, {256, 256, 256}, {512, 512, 512}, {512, 512, 512}} {
		for _, channels := range block {
			i++
			name := fmt.Sprintf("conv%d", i)
			x = b.conv(name, x, channels, square(3, 1))
			b.add(name+".bias", 0, channels)
		}
		x = x.pool(2, 2)
	}
	b.dense("fc6", 1, x.channels*x.height*x.width, 4096)
	b.dense("fc7", 1, 4096, 4096)
	b.dense("fc8", 1, 4096, 1000)
}

// resnet is a bottleneck network of He et al. (arXiv 1512.03385, table 1) with so many blocks a stage. The stride of a stage
// is in its first 3x3 convolution, as all present implementations have it, and not in the 1x1 before as in the paper, which
// takes 3.8 in place of 4.1 thousand million multiplications for 50 layers.
func resnet(b *builder, stages ...int) {
	x := b.convNorm("conv1", plane{3, 224, 224}, 64, square(7, 2))
	x = x.after(x.channels, 3, 3, 2, 1, 1) // maximum pooling
	for s, blocks := range stages {
		narrow := 64 << s
		for i := range blocks {
			name := fmt.Sprintf("layer%d.%d", s+1, i)
			stride := 1
			if s > 0 && i == 0 {
				stride = 2
			}
			y := b.convNorm(name+".1", x, narrow, square(1, 1))
			y = b.convNorm(name+".2", y, narrow, square(3, stride))
			y = b.convNorm(name+".3", y, 4*narrow, square(1, 1))
			if i == 0 {
				b.convNorm(name+".shortcut", x, 4*narrow, square(1, stride))
			}
			x = y
		}
	}
	b.dense("fc", 1, x.channels, 1000)
}

// inceptionV3 is Szegedy et al. (arXiv 1512.00567, table 1 and figures 5 to 7, and section 6 for the factorised first
// layers), as the widely used implementations have it. The auxiliary head (3.3M parameters more) is left out, as it is in
// TensorFlow's benchmarks, with which Horovod was measured.
func inceptionV3(b *builder, _ int) {
	x := b.convNorm("conv1a", plane{3, 299, 299}, 32, valid(3, 2))
	x = b.convNorm("conv2a", x, 32, valid(3, 1))
	x = b.convNorm("conv2b", x, 64, square(3, 1))
	x = x.pool(3, 2)
	x = b.convNorm("conv3b", x, 80, valid(1, 1))
	x = b.convNorm("conv4a", x, 192, valid(3, 1))
	x = x.pool(3, 2)
	for i, pooled := range []int{32, 64, 64} {
		x = b.mixedA(fmt.Sprintf("mixed5%c", 'b'+i), x, pooled)
	}
	x = b.reduceA("mixed6a", x)
	for i, narrow := range []int{128, 160, 160, 192} {
		x = b.mixedB(fmt.Sprintf("mixed6%c", 'b'+i), x, narrow)
	}
	x = b.reduceB("mixed7a", x)
	for i := range 2 {
		x = b.mixedC(fmt.Sprintf("mixed7%c", 'b'+i), x)
	}
	b.dense("fc", 1, x.channels, 1000)
}

// layer is one convolution of a branch.
type layer struct {
	channels int
	k        kernel
}

// branch adds convolutions one after the other and returns how many channels come out.
func (b *builder) branch(name string, x plane, layers ...layer) plane {
	for i, l := range layers {
		x = b.convNorm(fmt.Sprintf("%s.%d", name, i+1), x, l.channels, l.k)
	}
	return x
}

var (
	one    = square(1, 1)
	three  = square(3, 1)
	five   = square(5, 1)
	across = kernel{h: 1, w: 7, stride: 1, padW: 3}
	down   = kernel{h: 7, w: 1, stride: 1, padH: 3}
	flat   = kernel{h: 1, w: 3, stride: 1, padW: 1}
	tall   = kernel{h: 3, w: 1, stride: 1, padH: 1}
)

// mixedA is figure 5.
func (b *builder) mixedA(name string, x plane, pooled int) plane {
	b.branch(name+".one", x, layer{64, one})
	b.branch(name+".five", x, layer{48, one}, layer{64, five})
	b.branch(name+".double", x, layer{64, one}, layer{96, three}, layer{96, three})
	b.branch(name+".pool", x, layer{pooled, one})
	return plane{64 + 64 + 96 + pooled, x.height, x.width}
}

// reduceA halves the plane: figure 10.
func (b *builder) reduceA(name string, x plane) plane {
	y := b.branch(name+".three", x, layer{384, valid(3, 2)})
	b.branch(name+".double", x, layer{64, one}, layer{96, three}, layer{96, valid(3, 2)})
	return plane{384 + 96 + x.channels, y.height, y.width}
}

// mixedB is figure 6 with n = 7.
func (b *builder) mixedB(name string, x plane, narrow int) plane {
	b.branch(name+".one", x, layer{192, one})
	b.branch(name+".seven", x, layer{narrow, one}, layer{narrow, across}, layer{192, down})
	b.branch(name+".double", x, layer{narrow, one}, layer{narrow, down}, layer{narrow, across}, layer{narrow, down}, layer{192, across})
	b.branch(name+".pool", x, layer{192, one})
	return plane{4 * 192, x.height, x.width}
}

// reduceB halves the plane.
func (b *builder) reduceB(name string, x plane) plane {
	y := b.branch(name+".three", x, layer{192, one}, layer{320, valid(3, 2)})
	b.branch(name+".seven", x, layer{192, one}, layer{192, across}, layer{192, down}, layer{192, valid(3, 2)})
	return plane{320 + 192 + x.channels, y.height, y.width}
}

// mixedC is figure 7: two of its branches end in two convolutions side by side.
func (b *builder) mixedC(name string, x plane) plane {
	b.branch(name+".one", x, layer{320, one})
	y := b.branch(name+".three", x, layer{384, one})
	b.branch(name+".three.flat", y, layer{384, flat})
	b.branch(name+".three.tall", y, layer{384, tall})
	y = b.branch(name+".double", x, layer{448, one}, layer{384, three})
	b.branch(name+".double.flat", y, layer{384, flat})
	b.branch(name+".double.tall", y, layer{384, tall})
	b.branch(name+".pool", x, layer{192, one})
	return plane{320 + 4*384 + 192, x.height, x.width}
}
