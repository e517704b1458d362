"""Update expressions: SET, REMOVE, ADD, DELETE, document paths, functions and refusals."""

import pytest

from support.api import B, L, M, N, NS, S, SS, b64

START = {"n": N(5), "s": S("str"), "l": L(N(1), N(2), N(3)), "m": M(x=N(1), y=M(z=S("deep"))),
         "ss": SS("a", "b"), "ns": NS(1, 2), "bs": {"BS": [b64(b"x")]}, "yes": {"BOOL": True}}


@pytest.fixture
def update(api, hash_table, key):
    """Stores START, applies an expression, returns the item without its key."""

    def apply(expression, values=None, names=None, start=START):
        api.PutItem(TableName=hash_table, Item={"pk": S(key), **start})
        request = {"TableName": hash_table, "Key": {"pk": S(key)}, "UpdateExpression": expression,
                   "ReturnValues": "ALL_NEW"}
        if values:
            request["ExpressionAttributeValues"] = values
        if names:
            request["ExpressionAttributeNames"] = names
        answer = api.UpdateItem(request)["Attributes"]
        stored = api.GetItem(TableName=hash_table, Key={"pk": S(key)}, ConsistentRead=True)["Item"]
        assert normal(answer) == normal(stored), "ALL_NEW is not what was stored"
        stored.pop("pk")
        return stored

    return apply


def normal(value):
    """Sets sorted, so that equal values compare equal."""
    if isinstance(value, dict):
        return {k: sorted(v) if k in ("SS", "NS", "BS") and isinstance(v, list) else normal(v)
                for k, v in value.items()}
    if isinstance(value, list):
        return [normal(v) for v in value]
    return value


def changed(**changes):
    item = {**START, **changes}
    return normal({k: v for k, v in item.items() if v is not None})


@pytest.mark.parametrize("expression, values, changes", [
    ("SET n = :v", {":v": S("now a string")}, {"n": S("now a string")}),
    ("SET fresh = :v", {":v": M(a=L())}, {"fresh": M(a=L())}),
    ("SET n = n + :v", {":v": N(2)}, {"n": N(7)}),
    ("SET n = n - :v", {":v": N("7.5")}, {"n": N("-2.5")}),
    ("SET n = :v + n", {":v": N(2)}, {"n": N(7)}),
    ("SET fresh = :v - :w", {":v": N(2), ":w": N(3)}, {"fresh": N(-1)}),
    ("SET copied = s", None, {"copied": S("str")}),
    ("SET n = m.x + l[1]", None, {"n": N(3)}),
    ("SET m.x = :v", {":v": N(9)}, {"m": M(x=N(9), y=M(z=S("deep")))}),
    ("SET m.fresh = :v", {":v": N(9)}, {"m": M(x=N(1), y=M(z=S("deep")), fresh=N(9))}),
    ("SET m.y.z = :v", {":v": N(9)}, {"m": M(x=N(1), y=M(z=N(9)))}),
    ("SET l[1] = :v", {":v": S("b")}, {"l": L(N(1), S("b"), N(3))}),
    ("SET l[3] = :v", {":v": S("d")}, {"l": L(N(1), N(2), N(3), S("d"))}),
    ("SET l[9] = :v", {":v": S("d")}, {"l": L(N(1), N(2), N(3), S("d"))}),
    ("SET l[9] = :v, l[7] = :w", {":v": S("nine"), ":w": S("seven")},
     {"l": L(N(1), N(2), N(3), S("seven"), S("nine"))}),
    ("SET fresh = if_not_exists(fresh, :v)", {":v": N(1)}, {"fresh": N(1)}),
    ("SET n = if_not_exists(n, :v)", {":v": N(1)}, {}),
    ("SET n = if_not_exists(absent, n) + :v", {":v": N(1)}, {"n": N(6)}),
    ("SET l = list_append(l, :v)", {":v": L(N(4))}, {"l": L(N(1), N(2), N(3), N(4))}),
    ("SET l = list_append(:v, l)", {":v": L(N(0))}, {"l": L(N(0), N(1), N(2), N(3))}),
    ("SET fresh = list_append(if_not_exists(fresh, :e), :v)", {":e": L(), ":v": L(N(1))},
     {"fresh": L(N(1))}),
    # Every right side is read from the item as it was before.
    ("SET n = m.x, fresh = n", None, {"n": N(1), "fresh": N(5)}),
    ("REMOVE n", None, {"n": None}),
    ("REMOVE n, s, absent", None, {"n": None, "s": None}),
    ("REMOVE m.y.z", None, {"m": M(x=N(1), y=M())}),
    ("REMOVE l[0]", None, {"l": L(N(2), N(3))}),
    ("REMOVE l[0], l[2]", None, {"l": L(N(2))}),
    ("REMOVE l[7]", None, {}),
    ("REMOVE m.absent", None, {}),
    ("ADD n :v", {":v": N(3)}, {"n": N(8)}),
    ("ADD n :v", {":v": N(-8)}, {"n": N(-3)}),
    ("ADD fresh :v", {":v": N(3)}, {"fresh": N(3)}),
    ("ADD m.x :v", {":v": N(3)}, {"m": M(x=N(4), y=M(z=S("deep")))}),
    ("ADD m.fresh :v", {":v": N(3)}, {"m": M(x=N(1), y=M(z=S("deep")), fresh=N(3))}),
    ("ADD ss :v", {":v": SS("b", "c")}, {"ss": SS("a", "b", "c")}),
    ("ADD ns :v", {":v": NS("2.0", 3)}, {"ns": NS(1, 2, 3)}),
    ("ADD bs :v", {":v": {"BS": [b64(b"y")]}}, {"bs": {"BS": [b64(b"x"), b64(b"y")]}}),
    ("ADD fresh :v", {":v": SS("a")}, {"fresh": SS("a")}),
    ("DELETE ss :v", {":v": SS("a", "zz")}, {"ss": SS("b")}),
    ("DELETE ss :v", {":v": SS("a", "b")}, {"ss": None}),
    ("DELETE ns :v", {":v": NS("1.0")}, {"ns": NS(2)}),
    ("DELETE absent :v", {":v": SS("a")}, {}),
    ("SET n = :v REMOVE s ADD ns :w DELETE ss :x", {":v": N(1), ":w": NS(9), ":x": SS("a")},
     {"n": N(1), "s": None, "ns": NS(1, 2, 9), "ss": SS("b")}),
    ("remove s set n=:v", {":v": N(1)}, {"n": N(1), "s": None}),
])
def test_update(update, expression, values, changes):
    assert normal(update(expression, values)) == changed(**changes)


def test_names(update):
    assert update("SET #m.#x = :v, #odd = :v", {":v": N(9)},
                  {"#m": "m", "#x": "x", "#odd": "a.b c"})["a.b c"] == N(9)


def test_hundreds_of_elements_stay_in_order(update):
    start = {"l": L(*[N(i) for i in range(300)])}
    got = update("REMOVE " + ", ".join(f"l[{i}]" for i in range(0, 300, 2)), start=start)
    assert got["l"] == L(*[N(i) for i in range(1, 300, 2)])


INVALID = "Invalid UpdateExpression: "


@pytest.mark.parametrize("expression, values, message", [
    ("", None, INVALID + "The expression can not be empty;"),
    ("SET", None, INVALID + 'Syntax error; token: "<EOF>", near: "SET"'),
    ("n = :v", {":v": N(1)}, INVALID + 'Syntax error; token: "n", near: "n ="'),
    ("SET n = :v SET s = :v", {":v": N(1)},
     INVALID + 'The "SET" section can only be used once in an update expression;'),
    ("REMOVE n REMOVE s", None,
     INVALID + 'The "REMOVE" section can only be used once in an update expression;'),
    ("SET n = :v, n = :v", {":v": N(1)},
     INVALID + "Two document paths overlap with each other; must remove or rewrite one of these "
               "paths; path one: [n], path two: [n]"),
    ("SET m.x = :v REMOVE m", {":v": N(1)},
     INVALID + "Two document paths overlap with each other; must remove or rewrite one of these "
               "paths; path one: [m, x], path two: [m]"),
    ("SET m.x = :v, m[0] = :v", {":v": N(1)},
     INVALID + "Two document paths conflict with each other; must remove or rewrite one of these "
               "paths; path one: [m, x], path two: [m, [0]]"),
    ("SET n = :v", None, INVALID + "An expression attribute value used in expression is not defined; "
                                   "attribute value: :v"),
    ("SET #n = :v", {":v": N(1)},
     INVALID + "An expression attribute name used in the document path is not defined; "
               "attribute name: #n"),
    ("SET name = :v", {":v": N(1)},
     INVALID + "Attribute name is a reserved keyword; reserved keyword: name"),
    ("SET n = foo(n)", None, INVALID + "Invalid function name; function: foo"),
    ("SET n = size(s)", None,
     INVALID + "The function is not allowed in an update expression; function: size"),
    ("SET n = attribute_exists(s)", None,
     INVALID + "The function is not allowed in an update expression; function: attribute_exists"),
    ("SET n = if_not_exists(n)", None,
     INVALID + "Incorrect number of operands for operator or function; "
               "operator or function: if_not_exists, number of operands: 1"),
    ("SET n = if_not_exists(:v, n)", {":v": N(1)},
     INVALID + "Operator or function requires a document path; operator or function: if_not_exists"),
    ("SET n = n + :v", {":v": S("a")},
     INVALID + "Incorrect operand type for operator or function; operator or function: +, "
               "operand type: S"),
    ("SET l = list_append(l, :v)", {":v": S("a")},
     INVALID + "Incorrect operand type for operator or function; operator or function: list_append, "
               "operand type: S"),
    ("ADD n :v", {":v": S("a")},
     INVALID + "Incorrect operand type for operator or function; operator: ADD, operand type: STRING, "
               "typeSet: ALLOWED_FOR_ADD_OPERAND"),
    ("ADD n :v", {":v": {"BOOL": True}},
     INVALID + "Incorrect operand type for operator or function; operator: ADD, operand type: BOOLEAN, "
               "typeSet: ALLOWED_FOR_ADD_OPERAND"),
    ("ADD l :v", {":v": L(N(1))},
     INVALID + "Incorrect operand type for operator or function; operator: ADD, operand type: LIST, "
               "typeSet: ALLOWED_FOR_ADD_OPERAND"),
    ("DELETE n :v", {":v": N(1)},
     INVALID + "Incorrect operand type for operator or function; operator: DELETE, "
               "operand type: NUMBER, typeSet: ALLOWED_FOR_DELETE_OPERAND"),
    ("ADD n s", None, INVALID + 'Syntax error; token: "s", near: "n s"'),
    ("SET n = n + n + :v", {":v": N(1)}, INVALID + 'Syntax error; token: "+", near: "n + :v"'),
    # What only the item can show.
    ("SET n = absent", None,
     "The provided expression refers to an attribute that does not exist in the item"),
    ("SET n = absent + :v", {":v": N(1)},
     "The provided expression refers to an attribute that does not exist in the item"),
    ("SET n = s + :v", {":v": N(1)},
     "An operand in the update expression has an incorrect data type"),
    ("SET l = list_append(s, :v)", {":v": L(N(1))},
     "An operand in the update expression has an incorrect data type"),
    ("ADD s :v", {":v": N(1)}, "An operand in the update expression has an incorrect data type"),
    ("ADD ns :v", {":v": SS("a")}, "An operand in the update expression has an incorrect data type"),
    ("DELETE ns :v", {":v": SS("a")}, "An operand in the update expression has an incorrect data type"),
    ("SET absent.x = :v", {":v": N(1)},
     "The document path provided in the update expression is invalid for update"),
    ("SET n.x = :v", {":v": N(1)},
     "The document path provided in the update expression is invalid for update"),
    ("SET m[0] = :v", {":v": N(1)},
     "The document path provided in the update expression is invalid for update"),
    ("SET l.x = :v", {":v": N(1)},
     "The document path provided in the update expression is invalid for update"),
    ("REMOVE absent.x", None,
     "The document path provided in the update expression is invalid for update"),
    ("ADD absent.x :v", {":v": N(1)},
     "The document path provided in the update expression is invalid for update"),
    ("SET pk = :v", {":v": S("x")},
     "One or more parameter values were invalid: Cannot update attribute pk. "
     "This attribute is part of the key"),
    ("REMOVE pk", None, "One or more parameter values were invalid: Cannot update attribute pk. "
                        "This attribute is part of the key"),
])
def test_refused(api, invalid, hash_table, key, expression, values, message):
    api.PutItem(TableName=hash_table, Item={"pk": S(key), **START})
    request = {"TableName": hash_table, "Key": {"pk": S(key)}, "UpdateExpression": expression}
    if values:
        request["ExpressionAttributeValues"] = values
    invalid("UpdateItem", request, message)
    stored = api.GetItem(TableName=hash_table, Key={"pk": S(key)})["Item"]
    assert normal(stored) == normal({"pk": S(key), **START}), "a refused update changed the item"


def test_condition_is_judged_on_the_old_item(api, hash_table, key):
    api.PutItem(TableName=hash_table, Item={"pk": S(key), "n": N(1)})
    for expected in (200, 400):
        response = api.call("UpdateItem", {
            "TableName": hash_table, "Key": {"pk": S(key)}, "UpdateExpression": "SET n = n + :one",
            "ConditionExpression": "n = :one", "ExpressionAttributeValues": {":one": N(1)}})
        assert response.status == expected


@pytest.mark.parametrize("expression, values", [("REMOVE a", None), ("REMOVE a, b", None),
                                                ("DELETE a :s", {":s": SS("x")})])
def test_removing_from_an_absent_item_does_not_create_it(api, hash_table, key, expression, values):
    request = {"TableName": hash_table, "Key": {"pk": S(key)}, "UpdateExpression": expression,
               "ReturnValues": "ALL_NEW"}
    if values:
        request["ExpressionAttributeValues"] = values
    assert "Attributes" not in api.UpdateItem(request)
    assert api.GetItem(TableName=hash_table, Key={"pk": S(key)}) == {}


def test_update_expression_and_legacy_do_not_mix(invalid, hash_table, key):
    invalid("UpdateItem", {"TableName": hash_table, "Key": {"pk": S(key)},
                           "UpdateExpression": "SET n = :v", "ExpressionAttributeValues": {":v": N(1)},
                           "AttributeUpdates": {"n": {"Value": N(1)}}},
            "Can not use both expression and non-expression parameters in the same request: "
            "Non-expression parameters: {AttributeUpdates} Expression parameters: {UpdateExpression}")
