package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"
)

const (
	frameEvery = 250 * time.Millisecond
	lineEvery  = 2 * time.Second
	rows       = 12
	narrowest  = 70
)

// display shows the board until it is stopped.
type display struct {
	show    *show
	end     chan struct{}
	ended   chan struct{}
	started time.Time
	lines   int
}

func startDisplay(s *show, c crew) *display {
	d := &display{show: s, end: make(chan struct{}), ended: make(chan struct{}), started: time.Now()}
	joins := "an attacker joins in a few seconds"
	if c.attacker == nil {
		joins = "nobody attacks"
	}
	fmt.Fprintf(s.options.Out, "%d wearables publish to %s; %s. Ctrl-C ends it with the account.\n",
		len(c.honest), s.bridge.MQTT(), joins)
	go d.run()
	return d
}

func (d *display) run() {
	defer close(d.ended)
	every := lineEvery
	if d.width() >= narrowest {
		every = frameEvery
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			d.draw()
		case <-d.end:
			d.draw()
			return
		}
	}
}

func (d *display) stop() {
	close(d.end)
	<-d.ended
}

func (d *display) width() int {
	if d.show.options.Width == nil {
		return 0
	}
	return d.show.options.Width()
}

func (d *display) draw() {
	without, within, refused, attacked := d.show.board.views()
	width := d.width()
	if width < narrowest {
		fmt.Fprintf(d.show.options.Out, "%3.0f s  emergencies without the gate: %d   with Pulsegate: %d   refused so far: %d%s\n",
			time.Since(d.started).Seconds(), without.emergencies, within.emergencies, refused, attackNote(attacked))
		return
	}
	frame := d.frame(without, within, refused, attacked, width)
	var b strings.Builder
	if d.lines > 0 {
		// Back to where the last frame began, and clear it.
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", d.lines)
	}
	b.WriteString(frame)
	d.lines = strings.Count(frame, "\n")
	_, _ = io.WriteString(d.show.options.Out, b.String())
}

func attackNote(attacked bool) string {
	if attacked {
		return "   UNDER ATTACK"
	}
	return ""
}

func (d *display) frame(without, within view, refused int, attacked bool, width int) string {
	column := (width - 3) / 2
	left := side("WITHOUT THE GATE: every publish believed", without, column)
	right := side("WITH PULSEGATE: what reaches triage", within, column)
	status := fmt.Sprintf("%.0f s   refused so far: %d%s", time.Since(d.started).Seconds(), refused, attackNote(attacked))
	return lipgloss.JoinHorizontal(lipgloss.Top, left, "   ", right) + "\n\n" + status + "\n"
}

func side(title string, v view, width int) string {
	lines := []string{
		lipgloss.NewStyle().Bold(true).Render(truncate(title, width)),
		fmt.Sprintf("%d patients   %s", len(v.patients), v.alarm()),
		"",
	}
	for i := range rows {
		if i >= len(v.patients) {
			lines = append(lines, "")
			continue
		}
		p := v.patients[i]
		text := fmt.Sprintf("%-8s SpO2 %3.0f %%  pulse %3.0f/min  %s", truncate(p.id, 8), p.spo2, p.heartRate, labels[p.urgent])
		lines = append(lines, styles[p.urgent].Render(truncate(text, width)))
	}
	return lipgloss.NewStyle().Width(width).Render(strings.Join(lines, "\n"))
}

// alarm is the side's number of emergencies, in their colour if there are any.
func (v view) alarm() string {
	text := fmt.Sprintf("emergencies: %d", v.emergencies)
	if v.emergencies == 0 {
		return text
	}
	return styles[emergency].Render(text)
}

func truncate(text string, width int) string {
	if len(text) > width {
		return text[:width]
	}
	return text
}

var labels = map[urgency]string{calm: "", watchful: "watch", emergency: "EMERGENCY"}

var styles = map[urgency]lipgloss.Style{
	calm:      lipgloss.NewStyle(),
	watchful:  lipgloss.NewStyle().Foreground(lipgloss.Color("3")),
	emergency: lipgloss.NewStyle().Foreground(lipgloss.Color("1")).Bold(true),
}
