#!/usr/bin/env escript
%% See test_runtimes.py.
-mode(compile).

work(_, 0, _, Sum) -> Sum;
work(Seed, Steps, Table, Sum) ->
    X = Seed * 48271 rem 2147483647,
    Next = Table#{X rem 1000 => {X, integer_to_list(X)}},
    case Next of
        #{(X div 1000 rem 1000) := {Value, Text}} ->
            work(X, Steps - 1, Next, (Sum + Value + length(Text)) rem 1000000007);
        _ -> work(X, Steps - 1, Next, Sum)
    end.

round(Number, Threads, Steps) ->
    Self = self(),
    Started = [spawn_monitor(fun() -> Self ! {sum, work(Number * Threads + I, Steps, #{}, 0)} end) || I <- lists:seq(1, Threads)],
    [receive {'DOWN', Ref, process, Pid, normal} -> ok end || {Pid, Ref} <- Started],
    lists:sum([receive {sum, Sum} -> Sum end || _ <- Started]).

main(Words) ->
    [Threads, Rounds, Steps] = [list_to_integer(Word) || Word <- Words],
    io:format("~b~n", [lists:sum([round(Number, Threads, Steps) || Number <- lists:seq(0, Rounds - 1)])]).
