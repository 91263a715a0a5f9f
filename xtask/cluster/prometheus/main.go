// Command rules reads rule files and the expressions of dashboards' panels as Prometheus does, and ends with 1 where it
// cannot.
package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	complaints := 0
	for _, path := range os.Args[1:] {
		count, errors := read(path)
		for _, err := range errors {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
		}
		complaints += len(errors)
		fmt.Printf("%s: %d expressions\n", path, count)
	}
	if complaints > 0 {
		os.Exit(1)
	}
}

// read gives how many expressions a file has, and what is wrong with them.
func read(path string) (int, []error) {
	expressions := parser.NewParser(parser.Options{})
	if !strings.HasSuffix(path, ".json") {
		groups, errors := rulefmt.ParseFile(path, false, model.UTF8Validation, expressions, slog.Default())
		count := 0
		if groups != nil {
			for _, group := range groups.Groups {
				count += len(group.Rules)
			}
		}
		return count, errors
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, []error{err}
	}
	var dashboard panel
	if err := json.Unmarshal(text, &dashboard); err != nil {
		return 0, []error{err}
	}
	return dashboard.read(expressions)
}

// A panel, or what has panels in it: a dashboard, or a row of one.
type panel struct {
	Title   string
	Panels  []panel
	Targets []struct{ Expr string }
}

func (p panel) read(expressions parser.Parser) (int, []error) {
	count := len(p.Targets)
	var errors []error
	for _, target := range p.Targets {
		// Grafana puts a duration in its place before it asks.
		expression := strings.ReplaceAll(target.Expr, "$__rate_interval", "1m")
		if _, err := expressions.ParseExpr(expression); err != nil {
			errors = append(errors, fmt.Errorf("panel %q: %w", p.Title, err))
		}
	}
	for _, inner := range p.Panels {
		more, complaints := inner.read(expressions)
		count += more
		errors = append(errors, complaints...)
	}
	return count, errors
}
