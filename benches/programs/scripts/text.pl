# Words of generated text counted, indexed, joined and sorted: hashes, arrays,
# strings and closures that come and go. Usage: text.pl ROUNDS
use strict;
use warnings;

my $rounds = shift // 1;
my $state = 12345;
sub draw { my $n = shift; $state = ($state * 1103515245 + 12345) % 2147483648; return int($state / 65536) % $n }

my @words = map { my $k = $_; join '', map { $k = int($k / 3) + 7 * $_; chr(97 + $k % 26) } 1 .. 4 + $_ % 9 } 1 .. 4000;
@words = do { my %once; grep { !$once{$_}++ } @words };
my $checksum = 0;
for my $round (1 .. $rounds) {
    my (%count, %lines_of, @lines);
    for my $line (0 .. 4999) {
        my $text = join ' ', map { $words[draw(scalar @words)] } 1 .. 4 + draw(12);
        push @lines, $text;
        for my $word (split / /, $text) {
            $count{$word}++;
            push @{ $lines_of{$word} }, $line;
        }
    }
    my @by_count = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
    my %pairs;
    for my $word (@by_count[0 .. 499]) {
        my %seen;
        for my $line (@{ $lines_of{$word} }) {
            $seen{$_}++ for split / /, $lines[$line];
        }
        $pairs{$word} = { map { $_ => $seen{$_} } grep { $seen{$_} > 1 } keys %seen };
    }
    my @found = grep { /([a-m]{2,})\s+([n-z]\w*)/ && length($1 . $2) > 5 } @lines;
    s/(\w+) (\w+)/$2-$1/g for @found;
    my @records = map { { word => $_, count => $count{$_}, lines => [ @{ $lines_of{$_} } ] } } @by_count;
    @records = sort { @{ $b->{lines} } <=> @{ $a->{lines} } || $a->{word} cmp $b->{word} } @records;
    my $text = join "\n", map { join ',', $_->{word}, $_->{count}, @{ $_->{lines} } } @records;
    $checksum = ($checksum * 31 + unpack('%32C*', $text) + @found + scalar map { %{ $pairs{$_} } } keys %pairs) % 1000000007;
}
print "$checksum\n";
