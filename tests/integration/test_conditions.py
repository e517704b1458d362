"""Condition expressions: every operator and function, their precedence and every refusal."""

import pytest

from support.api import B, L, M, N, NS, S, SS, b64

ITEM = {
    "n": N(5), "s": S("hello"), "b": B(b"\x01\x02\x03"), "yes": {"BOOL": True}, "nul": {"NULL": True},
    "ss": SS("a", "b"), "ns": NS(1, 2), "bs": {"BS": [b64(b"x")]},
    "l": L(N(1), S("two"), M(k=S("v"))), "m": M(x=N(1), y=M(z=S("deep"))),
    "has.dot": N(1), "blank": S(""),
}
VALUES = {
    ":n4": N(4), ":n5": N(5), ":n50": N("5.0"), ":n6": N(6), ":n3": N(3), ":hello": S("hello"),
    ":he": S("he"), ":ell": S("ell"), ":zz": S("zz"), ":a": S("a"), ":c": S("c"), ":n1": N(1),
    ":n9": N(9), ":two": S("two"), ":b12": B(b"\x01\x02"), ":b23": B(b"\x02\x03"),
    ":true": {"BOOL": True}, ":false": {"BOOL": False}, ":null": {"NULL": True}, ":ssab": SS("b", "a"),
    ":ssabc": SS("a", "b", "c"), ":deep": S("deep"), ":S": S("S"), ":N": S("N"), ":Btype": S("B"),
    ":BOOLtype": S("BOOL"), ":NULLtype": S("NULL"), ":SStype": S("SS"), ":NStype": S("NS"),
    ":BStype": S("BS"), ":Ltype": S("L"), ":Mtype": S("M"), ":listval": L(N(1), S("two"), M(k=S("v"))),
    ":mapval": M(y=M(z=S("deep")), x=N(1)), ":bx": B(b"x"), ":n0": N(0), ":kv": M(k=S("v")),
    ":empty": S(""),
}


@pytest.fixture(scope="module")
def stored(api, module_tables):
    table = module_tables.create()
    api.PutItem(TableName=table, Item={"pk": S("item"), **ITEM})
    return table


def request_for(table, expression, names=None):
    import re
    used = set(re.findall(r":\w+", expression))
    request = {"TableName": table, "Item": {"pk": S("item"), **ITEM}, "ConditionExpression": expression}
    if used:
        request["ExpressionAttributeValues"] = {v: VALUES[v] for v in used}
    if names:
        request["ExpressionAttributeNames"] = names
    return request


TRUE = [
    "n = :n5", "n = :n50", "n <> :n4", "n < :n6", "n <= :n5", "n > :n4", "n >= :n5", ":n5 = n",
    ":n4 < n", "s = :hello", "s > :he", "s <> :n5", "n <> :hello", "yes = :true", "yes <> :false",
    "nul = :null", "ss = :ssab", "ss <> :ssabc", "l = :listval", "m = :mapval", "l[2] = :kv",
    "b > :b12", "blank = :empty",
    "n BETWEEN :n4 AND :n6", "n BETWEEN :n5 AND :n5", "NOT n BETWEEN :n6 AND :n9",
    "n IN (:n5)", "n IN (:n1, :n4, :n5)", "NOT n IN (:n1)", "s IN (:hello, :n5)",
    "attribute_exists(n)", "attribute_not_exists(absent)", "attribute_exists(m.y.z)",
    "attribute_exists(l[2].k)", "attribute_not_exists(l[3])", "attribute_not_exists(m.q)",
    "attribute_not_exists(n.x)", "attribute_type(n, :N)", "attribute_type(s, :S)",
    "attribute_type(b, :Btype)", "attribute_type(yes, :BOOLtype)", "attribute_type(nul, :NULLtype)",
    "attribute_type(ss, :SStype)", "attribute_type(ns, :NStype)", "attribute_type(bs, :BStype)",
    "attribute_type(l, :Ltype)", "attribute_type(m, :Mtype)", "NOT attribute_type(absent, :S)",
    "begins_with(s, :he)", "begins_with(s, :hello)", "begins_with(b, :b12)", "begins_with(s, :empty)",
    "contains(s, :ell)", "contains(ss, :a)", "contains(ns, :n1)", "contains(bs, :bx)",
    "contains(l, :two)", "contains(l, :n1)", "contains(l, :kv)", "contains(b, :b23)",
    "NOT contains(ss, :c)", "NOT contains(n, :n5)", "NOT contains(absent, :a)",
    "size(s) = :n5", "size(b) = :n3", "size(l) = :n3", "size(ss) < :n3", "size(blank) = :n0",
    "size(m) BETWEEN :n1 AND :n3", "size(s) = n", "size(s) IN (:n4, :n5)",
    "n = :n5 AND s = :hello", "n = :n4 OR s = :hello", "NOT n = :n4", "NOT (n = :n4 AND s = :hello)",
    # AND binds tighter than OR, NOT tighter than AND.
    "n = :n5 OR n = :n4 AND s = :zz", "NOT n = :n4 AND s = :hello", "NOT n = :n5 OR s = :hello",
    "(n = :n4 OR n = :n5) AND s = :hello", "NOT NOT n = :n5",
    "n between :n4 and :n6 and not s in (:zz) or attribute_exists(absent)",
    "m.x = l[0]", "m.y.z = :deep", "attribute_exists(l[0]) AND l[1] = :two",
]

FALSE = [
    "n = :hello", "n < :n5", "n > :n5", "s < :n5", "s > :n5", "absent = :n5", "absent <> :n5 AND n = :n4",
    "absent < :n5", "NOT n = :n5", "n IN (:n4, :n6)", "n BETWEEN :n6 AND :n9", "begins_with(s, :zz)",
    "begins_with(n, :he)", "begins_with(absent, :he)", "contains(s, :n5)", "contains(m, :a)",
    "size(absent) = :n0", "size(n) > :n0", "size(yes) > :n0", "attribute_exists(n.x)",
    "n = :n4 OR n = :n5 AND s = :zz", "(n = :n5 OR n = :n4) AND s = :zz", "l[9] = :n1",
    "attribute_type(n, :S)", "s BETWEEN :n4 AND :n6",
]


@pytest.mark.parametrize("expression", TRUE)
def test_holds(api, stored, expression):
    response = api.call("PutItem", request_for(stored, expression))
    assert response.status == 200, response


@pytest.mark.parametrize("expression", FALSE)
def test_does_not_hold(api, stored, expression):
    response = api.call("PutItem", request_for(stored, expression))
    assert response.error_type == "ConditionalCheckFailedException", response


@pytest.mark.parametrize("text, length", [("\u00e9", 1), ("\ud55c\uae00", 2), ("\U0001f3fa", 2), ("a\U0001d11e", 3)])
def test_size_of_text_is_in_utf_16_units(api, stored, text, length):
    api.PutItem(TableName=stored, Item={"pk": S("text"), "t": S(text)})
    for wanted, status in ((length, 200), (len(text.encode()), 400)):
        assert api.call("DeleteItem" if status == 400 else "PutItem", {
            "TableName": stored, **({"Key": {"pk": S("text")}} if status == 400 else {
                "Item": {"pk": S("text"), "t": S(text)}}), "ConditionExpression": "size(t) = :n",
            "ExpressionAttributeValues": {":n": N(wanted)}}).status == status


def test_absent_is_different_from_every_value(api, stored):
    """`absent <> :v` holds on the service: there is nothing that could be equal."""
    assert api.call("PutItem", request_for(stored, "absent <> :n5")).status == 200


def test_placeholder_names(api, stored):
    for expression, names in [
        ("#n = :n5", {"#n": "n"}), ("#m.#y.z = :deep", {"#m": "m", "#y": "y"}),
        ("#d = :n1", {"#d": "has.dot"}), ("#l[1] = :two", {"#l": "l"}),
        ("attribute_exists(#1_a)", {"#1_a": "n"}),
    ]:
        assert api.call("PutItem", request_for(stored, expression, names)).status == 200, expression


REFUSED = [
    ("", "The expression can not be empty;"),
    ("foo(n)", "Invalid function name; function: foo"),
    ("Attribute_Exists(n)", "Invalid function name; function: Attribute_Exists"),
    ("n = :undefined", "An expression attribute value used in expression is not defined; "
                       "attribute value: :undefined"),
    ("#undefined = n", "An expression attribute name used in the document path is not defined; "
                       "attribute name: #undefined"),
    ("Abort = :n5", "Attribute name is a reserved keyword; reserved keyword: Abort"),
    ("m.name = :n5", "Attribute name is a reserved keyword; reserved keyword: name"),
    ("n = n", "The first operand must be distinct from the remaining operands for this operator or "
              "function; operator: =, first operand: [n]"),
    ("m.x < m.x", "The first operand must be distinct from the remaining operands for this operator "
                  "or function; operator: <, first operand: [m, x]"),
    ("n BETWEEN :n6 AND :n4",
     "The BETWEEN operator requires upper bound to be greater than or equal to lower bound; "
     "lower bound operand: AttributeValue: {N:6}, upper bound operand: AttributeValue: {N:4}"),
    ("n BETWEEN :n6 AND :he",
     "The BETWEEN operator requires same data type for lower and upper bounds; "
     "lower bound operand: AttributeValue: {N:6}, upper bound operand: AttributeValue: {S:he}"),
    ("begins_with(s, :n5)", "Incorrect operand type for operator or function; "
                            "operator or function: begins_with, operand type: N"),
    ("attribute_type(n, :n5)", "Incorrect operand type for operator or function; "
                               "operator or function: attribute_type, operand type: N"),
    ("n < :true", "Incorrect operand type for operator or function; "
                  "operator or function: <, operand type: BOOL"),
    ("n >= :ssab", "Incorrect operand type for operator or function; "
                   "operator or function: >=, operand type: SS"),
    ("attribute_exists(n, s)", "Incorrect number of operands for operator or function; "
                               "operator or function: attribute_exists, number of operands: 2"),
    ("contains(s)", "Incorrect number of operands for operator or function; "
                    "operator or function: contains, number of operands: 1"),
    ("size(n, s) = :n1", "Incorrect number of operands for operator or function; "
                         "operator or function: size, number of operands: 2"),
    ("size(n)", "The function is not allowed to be used this way in an expression; function: size"),
    ("attribute_exists(n) = :n1",
     "The function is not allowed to be used this way in an expression; function: attribute_exists"),
    ("if_not_exists(n, :n1) = :n1",
     "The function is not allowed in a condition expression; function: if_not_exists"),
    ("list_append(l, :listval) = :n1",
     "The function is not allowed in a condition expression; function: list_append"),
    ("attribute_exists(:n1)", "Operator or function requires a document path; "
                              "operator or function: attribute_exists"),
    ("((n = :n5))", "The expression has redundant parentheses;"),
    ("n == :n5", 'Syntax error; token: "=", near: "== :n5"'),
    ("n ! :n5", 'Syntax error; token: "!", near: "n ! :n5"'),
    ("(n = :n5", 'Syntax error; token: "<EOF>", near: ":n5"'),
    ("n = :n5)", 'Syntax error; token: ")", near: ":n5)"'),
    ("n", 'Syntax error; token: "<EOF>", near: "n"'),
    ("n = ", 'Syntax error; token: "<EOF>", near: "= "'),
    ("AND n = :n5", 'Syntax error; token: "AND", near: "AND n"'),
    ("n IN ()", 'Syntax error; token: ")", near: "()"'),
    ("n = 5", 'Syntax error; token: "5", near: "= 5"'),
    ("l[-1] = :n5", 'Syntax error; token: "-", near: "[-1"'),
    ("n = :n5 n = :n4", 'Syntax error; token: "n", near: ":n5 n ="'),
]


@pytest.mark.parametrize("expression, message", REFUSED)
def test_refused(api, stored, expression, message):
    import re
    request = request_for(stored, re.sub(r":undefined", "", expression))
    request["ConditionExpression"] = expression
    if "undefined" in expression:
        request.pop("ExpressionAttributeValues", None)
    response = api.call("PutItem", request)
    assert response.error_type == "ValidationException", response
    assert response.message == "Invalid ConditionExpression: " + message


@pytest.mark.parametrize("kind", ["Q", "s", "STRING", ""])
def test_unknown_type_names(api, stored, kind):
    response = api.call("PutItem", {
        "TableName": stored, "Item": {"pk": S("item")}, "ConditionExpression": "attribute_type(n, :t)",
        "ExpressionAttributeValues": {":t": S(kind)}})
    assert response.error_type == "ValidationException"
    found = response.message.rsplit("{", 1)
    assert found[0] == ("Invalid ConditionExpression: Invalid attribute type name found; "
                        f"type: {kind}, valid types: ")
    # The service prints a set: its order is not part of the contract.
    assert sorted(found[1].rstrip("}").split(",")) == sorted(
        ["B", "NULL", "SS", "BOOL", "L", "BS", "N", "NS", "S", "M"])


@pytest.mark.parametrize("change, message", [
    ({"ExpressionAttributeValues": {":v": N(5), ":unused": N(1)}},
     "Value provided in ExpressionAttributeValues unused in expressions: keys: {:unused}"),
    ({"ExpressionAttributeNames": {"#unused": "x"}},
     "Value provided in ExpressionAttributeNames unused in expressions: keys: {#unused}"),
    ({"ExpressionAttributeValues": {}}, "ExpressionAttributeValues must not be empty"),
    ({"ExpressionAttributeNames": {}}, "ExpressionAttributeNames must not be empty"),
    ({"ExpressionAttributeValues": {"v": N(5)}},
     'ExpressionAttributeValues contains invalid key: Syntax error; key: "v"'),
    ({"ExpressionAttributeValues": {":v-": N(5)}},
     'ExpressionAttributeValues contains invalid key: Syntax error; key: ":v-"'),
    ({"ExpressionAttributeNames": {"n": "n"}},
     'ExpressionAttributeNames contains invalid key: Syntax error; key: "n"'),
    ({"ExpressionAttributeValues": {":v": {}}},
     "ExpressionAttributeValues contains invalid value: Supplied AttributeValue is empty, must "
     "contain exactly one of the supported datatypes for key :v"),
    ({"ExpressionAttributeValues": {":v": N("x")}},
     "ExpressionAttributeValues contains invalid value: "
     "The parameter cannot be converted to a numeric value: x for key :v"),
    ({"ExpressionAttributeValues": {":v": {"SS": []}}},
     "ExpressionAttributeValues contains invalid value: One or more parameter values were invalid: "
     "An string set  may not be empty for key :v"),
    ({"Expected": {"n": {"Exists": False}}},
     "Can not use both expression and non-expression parameters in the same request: "
     "Non-expression parameters: {Expected} Expression parameters: {ConditionExpression}"),
])
def test_placeholders_refused(invalid, stored, change, message):
    invalid("PutItem", {"TableName": stored, "Item": {"pk": S("item")}, "ConditionExpression": "n = :v",
                        "ExpressionAttributeValues": {":v": N(5)}, **change}, message)


def test_placeholders_without_an_expression(invalid, stored):
    base = {"TableName": stored, "Item": {"pk": S("item")}}
    invalid("PutItem", {**base, "ExpressionAttributeNames": {"#n": "n"}},
            "ExpressionAttributeNames can only be specified when using expressions")
    invalid("PutItem", {**base, "ExpressionAttributeValues": {":n": N(1)}},
            "ExpressionAttributeValues can only be specified when using expressions: "
            "ConditionExpression is null")
    invalid("UpdateItem", {"TableName": stored, "Key": {"pk": S("item")},
                           "ExpressionAttributeValues": {":n": N(1)}},
            "ExpressionAttributeValues can only be specified when using expressions: "
            "UpdateExpression and ConditionExpression are null")


def test_unused_placeholders_are_found_before_the_table(fails):
    fails("PutItem", {"TableName": "no_such_table", "Item": {"pk": S("item")},
                      "ConditionExpression": "n = :v",
                      "ExpressionAttributeValues": {":v": N(1), ":w": N(1)}}, "ValidationException",
          "Value provided in ExpressionAttributeValues unused in expressions: keys: {:w}")


def test_expression_size_limit(api, invalid, stored):
    def padded(length):
        base = "n = :n5"
        return {**request_for(stored, base), "ConditionExpression": base + " " * (length - len(base))}

    assert api.call("PutItem", padded(4096)).status == 200
    invalid("PutItem", padded(4097), "Invalid ConditionExpression: Expression size has exceeded the "
                                     "maximum allowed size; expression size: 4097")


def test_long_chains_have_a_bound(api, stored):
    """300 operators are the service's documented maximum; deep nesting must not crash either."""
    fine = " OR ".join(["n = :n4"] * 100 + ["n = :n5"])
    assert api.call("PutItem", request_for(stored, fine)).status == 200
    names = request_for(stored, " OR ".join(["n=:n5"] * 400))
    assert api.call("PutItem", names).error_type == "ValidationException"
    deep = "NOT " * 900 + "n = :n5"
    assert api.call("PutItem", request_for(stored, deep)).status in (200, 400)
    assert api.call("PutItem", request_for(stored, "(" * 2000)).error_type == "ValidationException"


def test_in_takes_a_hundred_operands(api, invalid, stored):
    def request(count):
        return {"TableName": stored, "Item": {"pk": S("item"), **ITEM},
                "ConditionExpression": "n IN (" + ", ".join(f":v{i}" for i in range(count)) + ")",
                "ExpressionAttributeValues": {f":v{i}": N(i) for i in range(count)}}

    assert api.call("PutItem", request(100)).status == 200
    assert api.call("PutItem", request(101)).error_type == "ValidationException"


def test_conditions_on_an_absent_item(api, tables):
    table = tables.create()
    for expression, status in [("attribute_not_exists(pk)", 200), ("attribute_exists(pk)", 400),
                               ("NOT attribute_exists(pk)", 200)]:
        response = api.call("DeleteItem", {"TableName": table, "Key": {"pk": S("x")},
                                           "ConditionExpression": expression})
        assert response.status == status, expression
